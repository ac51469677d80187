package pg

import (
	"context"
	"fmt"
	"time"
)

// Server is what a job must know of the server, the database and the user it speaks as.
type Server struct {
	Version            int // server_version_num: 150018 is 15.18
	Database           string
	Encoding           string // of the database, as Postgres spells it: UTF8, LATIN1, SQL_ASCII
	InRecovery         bool   // a standby: nothing can be written
	DefaultReadOnly    bool   // default_transaction_read_only
	DeadlockTimeout    time.Duration
	User               string // current_user
	Superuser          bool
	BypassRowSecurity  bool // superuser or BYPASSRLS
	MayCreateSchema    bool // CREATE on the database
	MaySetReplication  bool // may set session_replication_role, which silences triggers
	MaxIdentifierBytes int  // longer names are cut by the server
}

// Major is the major version: 15.
func (s Server) Major() int { return s.Version / 10000 }

const serverSQL = `
SELECT pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_database()::text, pg_catalog.getdatabaseencoding()::text,
       pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')::bool,
       (extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) * 1000000)::int8,
       current_user::text, r.rolsuper, r.rolsuper OR r.rolbypassrls,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       pg_catalog.current_setting('max_identifier_length')::int4
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

// has_parameter_privilege came with Postgres 15; before, only a superuser could.
const replicationSQL = `SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')`

// InspectServer reads the facts of [Server]. It works on a standby and on versions too old for anything else.
func InspectServer(ctx context.Context, q Querier) (s Server, err error) {
	err = atHome(ctx, q, func(q Querier) error {
		s, err = readServer(ctx, q)
		return err
	})
	if err != nil {
		return Server{}, fmt.Errorf("inspect the server: %w", err)
	}
	return s, nil
}

func inspectServer(ctx context.Context, q Querier, all []*Relation) error {
	server, err := readServer(ctx, q)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	for _, r := range all {
		r.Server = server
	}
	return nil
}

func readServer(ctx context.Context, q Querier) (s Server, err error) {
	var micros int64
	err = q.QueryRow(ctx, serverSQL).Scan(&s.Version, &s.Database, &s.Encoding, &s.InRecovery, &s.DefaultReadOnly, &micros,
		&s.User, &s.Superuser, &s.BypassRowSecurity, &s.MayCreateSchema, &s.MaxIdentifierBytes)
	if err != nil {
		return Server{}, err
	}
	s.DeadlockTimeout = time.Duration(micros) * time.Microsecond
	s.MaySetReplication = s.Superuser
	if !s.Superuser && s.Major() >= 15 {
		if err := q.QueryRow(ctx, replicationSQL).Scan(&s.MaySetReplication); err != nil {
			return Server{}, err
		}
	}
	return s, nil
}
