package main

import "syscall"

// withParent has the kernel end the program when its guard is killed.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
