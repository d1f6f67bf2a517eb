//go:build !linux

package main

import "syscall"

// withParent is nothing special here: a guard that is killed itself leaves its program behind.
func withParent() *syscall.SysProcAttr { return nil }
