//go:build unix

package command

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

type sigKind = syscall.Signal

const (
	termSignal = syscall.SIGTERM
	killSignal = syscall.SIGKILL
)

// spawn starts sh with args in a session of its own, with lock as descriptor 3, and does not wait for it.
func spawn(args, env []string, dir string, lock *os.File) (pid int, err error) {
	cmd := exec.Command("/bin/sh", args...) //nolint:noctx // it outlives every context of ours
	cmd.Env, cmd.Dir = env, dir
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// Only to take the zombie away: what became of it is read from its folder.
	go func() { _ = cmd.Wait() }()
	return cmd.Process.Pid, nil
}

func groupExists(pid int) bool { return !errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) }

func signalGroup(pid int, sig sigKind) { _ = syscall.Kill(-pid, sig) }
