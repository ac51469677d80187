package embedded

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the system user that a server runs as; nil is the user of this process.
type account struct {
	name     string
	uid, gid uint32
}

// unprivileged returns the account for Postgres, which refuses to run as root: nil for an ordinary user, else the
// user postgres or, where there is none, nobody.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("find a user to run Postgres as: it refuses to run as root, and neither postgres nor nobody" +
		" exists here; create one, for example with `useradd --system postgres`")
}

func (a *account) String() string {
	if a == nil {
		return "the current user"
	}
	return "user " + a.name
}

// command prepares a program to run as the account in dir, in a process group of its own and with an environment
// that owes nothing to ours: PGDATA, PGPORT, LANG and their like must not reach a private server.
func (a *account) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}

// own hands everything below dir to the account.
func (a *account) own(dir string) error {
	if a == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.uid), int(a.gid))
	})
}

// canEnter fails, with what to do about it, when the account cannot reach dir, as is usual below root's home.
func (a *account) canEnter(ctx context.Context, dir string) error {
	if a == nil {
		return nil
	}
	if err := a.command(ctx, dir, "/bin/sh", "-c", ":").Run(); err != nil {
		return fmt.Errorf("enter %s as %s (Postgres refuses to run as root): %w;"+
			" choose a folder whose parents every user may enter", dir, a, err)
	}
	return nil
}
