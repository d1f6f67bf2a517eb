package command

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/flock"
)

// wrapper runs the program and notes what became of it, since only a parent learns an exit code and the worker
// that starts the program may be gone by then. $0 is the job's folder. The trap lets a shell that is sent TERM with
// its group wait for the program and note its code; a trap, unlike an ignored signal, is not inherited.
const wrapper = `umask 077
trap : TERM INT HUP
echo $$ >"$0/pid.new" && mv "$0/pid.new" "$0/pid"
"$@" </dev/null >>"$0/stdout.log" 2>>"$0/stderr.log"
code=$?
echo $code >"$0/exit.new" && mv "$0/exit.new" "$0/exit"
`

// baseEnv are the variables that a trainer gets of the worker's environment: those that end in * by prefix.
var baseEnv = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "XDG_*", "LD_LIBRARY_PATH", "DYLD_*",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
	"PYTHON*", "VIRTUAL_ENV", "CONDA_*", "HF_HOME", "HF_HUB_*", "HF_DATASETS_*", "TRANSFORMERS_*", "TORCH*", "PYTORCH_*",
	"CUDA_*", "NVIDIA_*", "NCCL_*", "ROCR_*", "HIP_*", "OMP_*", "MKL_*", "TOKENIZERS_PARALLELISM",
}

// process is who runs.
type process struct {
	PID     int    `json:"pid"`     // also the number of its group
	Started string `json:"started"` // when, in words of the kernel; "" when it cannot be told
}

// start starts the program, under the job's lock. The attempt is counted before, so that a death in between costs
// an attempt, never a second program.
func (b *Backend) start(ctx context.Context, f folder, rec record) error {
	if b.cfg.Host != nil {
		return b.startElsewhere(ctx, f, rec)
	}
	rec.Worked = f.worked(rec, false) // by what launch clears away; dying in between, the last output tells
	return b.launch(f, func() (args, env []string, err error) {
		rec.Attempts++
		if err := f.write(fileRecord, rec); err != nil {
			return nil, nil, err
		}
		if err := os.WriteFile(f.path(FileBegun+strconv.Itoa(rec.Attempts)), nil, 0o600); err != nil {
			return nil, nil, local("note the beginning", err)
		}
		a := b.attempt(f, rec)
		return a.Args, a.Env, nil
	})
}

// launch starts a program in the folder, under its lock, unless one runs. program says what, once nothing is left of the last.
func (b *Backend) launch(f folder, program func() (args, env []string, err error)) error {
	held, free, err := f.holdRunLock()
	if err != nil {
		return local("lock run", err)
	}
	if !free {
		if f.alive() {
			return nil // it runs: its start was not noted
		}
		// A stray that has left the group holds the lock of a program that is gone: the next one gets a new lock.
		if err := os.Remove(f.path(fileRunLock)); err != nil {
			return local("replace run lock", err)
		}
		if held, free, err = f.holdRunLock(); err != nil || !free {
			return local("lock run", errors.Join(err, errors.New("a new lock is not free")))
		}
	}
	defer func() { _ = held.Close() }() // the program holds it on
	for _, name := range []string{fileExit, filePID, fileProcess} {
		if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return local("clear the last attempt", err)
		}
	}
	args, env, err := program()
	if err != nil {
		return err
	}
	pid, err := spawn(append([]string{"-c", wrapper, string(f)}, args...), env, b.cfg.WorkDir, held)
	if err != nil {
		return local("start the program", err)
	}
	// Dying before this line leaves pid, which the wrapper writes itself.
	return f.write(fileProcess, process{PID: pid, Started: startOf(pid)})
}

// environment picks what the program gets of env.
func (b *Backend) environment(env []string) []string {
	names := baseEnv
	var set []string
	for _, e := range b.cfg.Env {
		if strings.Contains(e, "=") {
			set = append(set, e)
		} else {
			names = append(names[:len(names):len(names)], e)
		}
	}
	var out []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		for _, want := range names {
			stem, prefix := strings.CutSuffix(want, "*")
			if name == want || prefix && strings.HasPrefix(name, stem) {
				out = append(out, e)
				break
			}
		}
	}
	return append(out, set...)
}

// hide takes the values of variables that were passed on by name, and look like secrets, out of a trainer's words.
func (b *Backend) hide(words string) string {
	for _, e := range b.cfg.Env {
		name, value, set := strings.Cut(e, "=")
		if !set {
			value = os.Getenv(name)
		}
		name = strings.ToUpper(name)
		for _, mark := range []string{"KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"} {
			if strings.Contains(name, mark) && len(value) >= 4 {
				words = strings.ReplaceAll(words, value, "***")
			}
		}
	}
	return words
}

// holdRunLock takes the lock that a running program holds. free is false, and the file nil, when one does.
func (f folder) holdRunLock() (held *os.File, free bool, err error) {
	file, err := os.OpenFile(f.path(fileRunLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	got, err := flock.Try(file)
	if err != nil || !got {
		return nil, false, errors.Join(err, file.Close())
	}
	return file, true, nil
}

// alive reports whether the program runs, or anything that it started and that holds its lock. Only under the
// job's lock.
func (f folder) alive() bool {
	held, free, err := f.holdRunLock()
	if err != nil {
		return true // what cannot be told must not lead to a second start
	}
	if free {
		flock.Free(held)
		_ = held.Close()
		return false
	}
	// A stray child may hold the lock after the whole group is gone.
	pid, known := f.pid()
	return !known || groupExists(pid)
}

// pid returns the process group of the program, when it is known and still the same.
func (f folder) pid() (int, bool) {
	var p process
	if f.read(fileProcess, &p) == nil && p.PID > 1 {
		if now := startOf(p.PID); now != "" && p.Started != "" && now != p.Started {
			return 0, false // another process has the number now
		}
		return p.PID, true
	}
	raw, err := os.ReadFile(f.path(filePID))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return 0, false
	}
	// The process that started it died before noting this; it is noted now.
	if f.write(fileProcess, process{PID: pid, Started: startOf(pid)}) != nil {
		return 0, false
	}
	return pid, true
}

// signal sends a signal to the program's group, when it runs.
func (f folder) signal(sig sigKind) {
	if !f.alive() {
		return
	}
	if pid, known := f.pid(); known {
		signalGroup(pid, sig)
	}
}

func randomName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // does not fail
	return hex.EncodeToString(b[:])
}
