//go:build unix

package child

import (
	"errors"
	"os/exec"
	"syscall"
)

// OwnGroup has a command run in a process group of its own, which EndGroup ends.
func OwnGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// EndGroup ends a process and what it started, as kill -9 does. No error where there is none.
func EndGroup(pid int) error {
	if err := syscall.Kill(-pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
