// Package work is what there is to do, and whose it is: jobs, the ranges that they are cut into, and the claims on those.
// All of it stands in Postgres, in the database that holds the data. It knows no NATS.
//
// Words: a [Job] is one pass of transforms over one table; its [Spec] is what was asked for, with every name resolved to
// what it meant then. [Jobs] is the projection of jobs, changed only together with the event of the change. A [Planner]
// cuts a table into ranges: a [Range] is (After, Through] of a leaf's key space and the unit of distribution; one that is
// slow is split. [Ranges] is the fleet's work list; a [Claim] makes a range somebody's: its epoch fences every later
// write. A sweep is a pass behind the first, over what that left or what became uncovered since; a job is backfilled when
// a sweep has left nothing. A [Departure] is that of a leaf from its table.
package work
