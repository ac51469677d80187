// Package control is the coordinator's role: it prepares columns, plans jobs, leads the fleet and answers for it. The
// command line, the NATS service and the health page are only faces of it. Below it are the rooms for what needs no
// fleet: ladder, preflight, residue, restore, roadmap, scheme, standing, status and verify.
//
// Words: the [Plane] holds the verbs; the leader is the one coordinator that holds the advisory lock and whose epoch
// stands in the installation; a window is how many ranges of a job are offered at once; to reconcile is to compare queue
// and Postgres, and to believe Postgres; the keeper has tables swept again whose rows became uncovered after their job;
// [Solo] is a whole fleet within one program.
package control
