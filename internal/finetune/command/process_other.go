//go:build unix && !linux

package command

import (
	"os/exec"
	"strconv"
	"strings"
)

// startOf tells when a process started, or "" when there is none.
func startOf(pid int) string {
	cmd := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid))
	cmd.Env = []string{"LC_ALL=C", "PATH=/bin:/usr/bin"}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
