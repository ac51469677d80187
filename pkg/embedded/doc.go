// Package embedded runs the two servers that Cipherfleet needs, a private Postgres and a NATS with JetStream, for
// programs that must not depend on servers somebody else keeps: the demo, the one-process mode and the tests.
//
// A *cluster* is one Postgres data directory with its configuration, superuser password and log below one folder,
// its home. The *postmaster* is the server's parent process; it runs as a child of this program, as an unprivileged
// user when this program is root, and on Linux it ends with this program even when the program is killed.
// A *store* is the folder in which JetStream keeps its streams; a lock file keeps two servers from sharing one.
//
// Both servers listen on loopback only, on a free port that they keep across a restart, and demand a secret (a
// password, a token) that is random and readable by its owner alone. Nothing here reads the environment.
package embedded
