package main

import (
	"context"
	"io"
)

func runCommand(context.Context, []string, io.Writer, io.Writer) error     { return nil }
func crashCommand(context.Context, []string, io.Writer, io.Writer) error   { return nil }
func historyCommand(context.Context, []string, io.Writer, io.Writer) error { return nil }
