package child

import (
	"os/exec"
	"strconv"
	"syscall"
)

// OwnGroup has a command run in a process group of its own, which EndGroup ends.
func OwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// EndGroup ends a process and what it started. No error where there is none.
func EndGroup(pid int) error {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(pid)).Run() // it fails where there is none
	return nil
}
