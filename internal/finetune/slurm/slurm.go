// Package slurm trains on a Slurm cluster: a job's folder lies where the worker and the nodes both see it, and the
// program keeps the contract of internal/finetune/command.
//
// Each attempt is one batch job, named after the job and the attempt. Slurm accepts a name twice, so before anything is
// submitted the name is looked up, and a batch job that finds another one of its attempt at work leaves.
// What Slurm starts again by itself (preemption, a lost node) is the same attempt; what it gives up for such reasons is
// started anew, a bounded number of times.
//
// Commands: https://slurm.schedmd.com/sbatch.html, squeue, scontrol, sacct, scancel. Checked against Slurm 22.05.
package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
)

// Config says what to run on the cluster.
type Config struct {
	// Name of the trainer, for messages.
	Name string
	// Template is the batch script: #SBATCH lines for the resources, then shell commands that train. It sees the
	// variables that command describes. Slurm's own options for names, files and dependencies are set here and win.
	Template string
	// Dir holds a folder for each job, under the same path on the workers' machines and on the nodes.
	Dir string
	// Env names variables of the worker's environment that the program gets besides the usual ones; NAME=value sets one.
	Env []string
	// Bin is the folder of Slurm's commands; "" is PATH.
	Bin string
	// Resumes, Grace and Keep are those of command.Config.
	Resumes int
	Grace   time.Duration
	Keep    bool
	// Rate is what a job's nodes cost. The time in which a job waits for them is free.
	Rate finetune.Rate
	// Timeout of one of Slurm's commands; default 60 s.
	Timeout time.Duration
}

// New returns a backend for the cluster that Slurm's commands on this machine speak to. It runs none of them.
func New(cfg Config, store *blob.Store) (*command.Backend, error) {
	if strings.TrimSpace(cfg.Template) == "" {
		return nil, fmt.Errorf("trainer %s: no template of a batch script", cfg.Name)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	return command.New(command.Config{
		Name: cfg.Name, Dir: cfg.Dir, Env: append([]string{"SLURM_CONF", "SBATCH_*"}, cfg.Env...), Resumes: cfg.Resumes,
		Grace: cfg.Grace, Keep: cfg.Keep, Rate: cfg.Rate, Host: &cluster{cfg},
	}, store)
}

// cluster implements command.Host.
type cluster struct{ cfg Config }

// Files in a job's folder, beside those of package command. A number is that of the attempt.
const (
	fileBatch   = "batch.sh"        // what Slurm is given
	fileProgram = "program.sh"      // the template
	fileID      = "slurm-id-"       // Slurm's number of the attempt, noted by the worker
	fileBegun   = command.FileBegun // the same, noted by the batch job when it begins
	fileLog     = "slurm.log"       // what Slurm itself says about the batch jobs
	maxOutput   = 1 << 20           // of one of Slurm's commands, in bytes
	maxName     = 128               // of a batch job
	againCode   = command.ExitAgain
	noID        = ""
	nameOfBatch = "selfalign-"
)

// batch is the script around the user's. The first lines keep twins apart: whoever comes second under one attempt, or
// under an attempt that was given up, leaves. A shell that traps TERM lives to note the program's code.
const batch = `set -u
cd %[1]s || exit 1
umask 077
if ! (set -C; echo "$SLURM_JOB_ID" >%[3]s%[2]d) 2>/dev/null && [ "$(cat %[3]s%[2]d)" != "$SLURM_JOB_ID" ]; then exit 0; fi
trap : TERM INT HUP
rm -f exit
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then SELFALIGN_RESUME=1; export SELFALIGN_RESUME; fi
bash %[4]s </dev/null >>%[5]s 2>>%[6]s &
child=$!
wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
echo "$code" >exit.new && mv exit.new exit
exit "$code"
`

// nameOf is the name of an attempt's batch job.
func nameOf(a command.Attempt) string {
	name := nameOfBatch + a.Name
	return name[:min(len(name), maxName)] + "." + strconv.Itoa(a.Number)
}

// Start implements command.Host.
func (c *cluster) Start(ctx context.Context, a command.Attempt) error {
	if id, err := c.find(ctx, a); err != nil || id != noID {
		return err
	}
	script := c.script(a)
	for name, text := range map[string]string{fileProgram: c.cfg.Template, fileBatch: script} {
		if err := os.WriteFile(filepath.Join(a.Dir, name), []byte(text), 0o700); err != nil {
			return passing("write the batch script", err)
		}
	}
	args := []string{
		"--parsable", "--job-name=" + nameOf(a), "--comment=" + a.Name, "--export=ALL",
		"--output=" + filepath.Join(a.Dir, fileLog), "--error=" + filepath.Join(a.Dir, fileLog), "--open-mode=append",
		filepath.Join(a.Dir, fileBatch),
	}
	out, err := c.run(ctx, a, "sbatch", args...)
	if err != nil {
		return err
	}
	id, _, _ := strings.Cut(strings.TrimSpace(out), ";") // ;cluster
	if !number.MatchString(id) {
		return passing(fmt.Sprintf("sbatch answered %.200q", out), nil)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, fileID+strconv.Itoa(a.Number)), []byte(id+"\n"), 0o600); err != nil {
		return passing("note Slurm's number of the job", err)
	}
	return nil
}

var number = regexp.MustCompile(`^[0-9]{1,18}$`)

// script is the batch script of an attempt: the template's #SBATCH lines, which must come before any command, then ours.
func (c *cluster) script(a command.Attempt) string {
	var b strings.Builder
	b.WriteString("#!/bin/bash\n")
	for line := range strings.Lines(c.cfg.Template) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#SBATCH") {
			b.WriteString(line + "\n")
		} else if line != "" && !strings.HasPrefix(line, "#") {
			break // as Slurm does it
		}
	}
	fmt.Fprintf(&b, batch, quote(a.Dir), a.Number, fileBegun, fileProgram, quote(a.Stdout), quote(a.Stderr))
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// find returns Slurm's number of the attempt, or noID when there is none: what the worker noted, what the batch job
// noted, else what Slurm knows under the name.
func (c *cluster) find(ctx context.Context, a command.Attempt) (string, error) {
	for _, name := range []string{fileBegun, fileID} {
		raw, err := os.ReadFile(filepath.Join(a.Dir, name+strconv.Itoa(a.Number)))
		if id := strings.TrimSpace(string(raw)); err == nil && number.MatchString(id) {
			return id, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return noID, passing("read Slurm's number of the job", err)
		}
	}
	out, err := c.run(ctx, a, "squeue", "--noheader", "--states=all", "--name="+nameOf(a), "--format=%i")
	if err != nil {
		return noID, err
	}
	for line := range strings.Lines(out) { // of several, the first submitted
		if id := strings.TrimSpace(line); number.MatchString(id) {
			return id, nil
		}
	}
	return noID, nil
}

// Stop implements command.Host.
func (c *cluster) Stop(ctx context.Context, a command.Attempt, hard bool) error {
	id, err := c.find(ctx, a)
	if err != nil || id == noID {
		return err
	}
	args := []string{id}
	if !hard { // the batch shell and all that it started
		args = []string{"--signal=TERM", "--full", id}
	}
	_, err = c.run(ctx, a, "scancel", args...)
	if finetune.ClassOf(err) == finetune.ClassPermanent {
		return nil // it has ended, or has not begun; the next step is hard
	}
	return err
}

// run runs one of Slurm's commands. What it refuses is permanent, a controller that does not answer is passing.
func (c *cluster) run(ctx context.Context, a command.Attempt, name string, args ...string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	path := name
	if c.cfg.Bin != "" {
		path = filepath.Join(c.cfg.Bin, name)
	}
	cmd := exec.CommandContext(limited, path, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = a.Env, a.Dir, time.Second
	if a.Submitting != nil {
		cmd.ExtraFiles = []*os.File{a.Submitting}
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &bounded{w: &out, left: maxOutput}, &bounded{w: &said, left: maxOutput}
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	words := strings.TrimSpace(said.String())
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", name, ctx.Err())
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", &finetune.Error{Class: finetune.ClassPermanent, Message: name + " is not on this machine (Try: install Slurm's commands, or bin in the trainer's settings)"}
	case limited.Err() != nil:
		return "", passing(fmt.Sprintf("%s did not answer within %v: %s", name, c.cfg.Timeout, words), nil)
	}
	for _, weak := range []string{"Unable to contact", "Connection refused", "timed out", "temporarily", "Socket", "Zero Bytes", "not responding", "in backup mode", "Munge", "authentication"} {
		if strings.Contains(strings.ToLower(words), strings.ToLower(weak)) {
			return "", passing(name+": "+words, nil)
		}
	}
	return "", &finetune.Error{Class: finetune.ClassPermanent, Code: name, Message: finetune.Clip(words)}
}

// bounded drops what is beyond its bound.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func passing(what string, err error) error {
	return &finetune.Error{Class: finetune.ClassPassing, Message: finetune.Clip(what), Err: err}
}
