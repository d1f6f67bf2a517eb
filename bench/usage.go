package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// usage is what a process took from the machine. On systems without /proc it is zero and shown as unknown.
type usage struct {
	CPU  float64 `json:"cpu_s"`
	Peak int64   `json:"peak_rss_bytes"`
}

const ticksPerSecond = 100 // USER_HZ, the same on every Linux

// usageOf reads what a process used since it started; its peak since forgetPeak.
func usageOf(pid int) usage {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	// The name of the program, in brackets, may hold spaces. utime and stime are fields 14 and 15, counted from 1.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) > 12 {
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseFloat(string(f), 64)
			if err != nil {
				return u
			}
			u.CPU += ticks / ticksPerSecond
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				kib, err := strconv.ParseInt(string(f[0]), 10, 64)
				if err != nil {
					return u
				}
				u.Peak = kib << 10
			}
		}
	}
	return u
}

// forgetPeak makes the peak of this process begin anew.
func forgetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200) } // where it fails, the peak is too high

// meter adds up what a service used over all the processes that it was.
type meter struct {
	pid  int
	base usage // of the present process when it was first seen
	last usage
	sum  usage // of processes that are gone
}

// look reads the process that serves now.
func (m *meter) look(pid int) {
	u := usageOf(pid)
	if pid != m.pid {
		m.sum.CPU += m.last.CPU - m.base.CPU
		m.pid, m.base, m.last = pid, usage{}, usage{}
	}
	if u.CPU >= m.last.CPU {
		m.last = u
	}
	m.sum.Peak = max(m.sum.Peak, u.Peak)
}

// begin makes what the process used so far not count.
func (m *meter) begin(pid int) {
	m.look(pid)
	m.base = m.last
}

func (m *meter) total() usage {
	return usage{CPU: m.sum.CPU + m.last.CPU - m.base.CPU, Peak: m.sum.Peak}
}
