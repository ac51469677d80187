// Package control is the coordinator's role: it prepares columns, plans jobs, leads the fleet and answers for it. The
// command line, the NATS service and the health page are only faces of it.
//
// Words: the [Plane] holds the verbs; a rung is one recorded step before a job; the leader is the one coordinator
// that holds the advisory lock and whose epoch stands in the installation; a window is how many ranges of a job are
// offered at once; to reconcile is to compare queue and Postgres, and to believe Postgres.
package control
