package command

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// startOf tells when a process started, as boot id and clock ticks since, or "" when there is none: field 22 of
// proc_pid_stat(5). The second field may hold spaces and parentheses, so fields count from the last ")".
func startOf(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + fields[19]
}
