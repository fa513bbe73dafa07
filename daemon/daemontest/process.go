package daemontest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// process is a running `sigild run`.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when the log says so
	ended chan struct{} // closed when the process is gone
	err   error         // how it ended; read after ended

	mu   sync.Mutex
	tail []string // the last lines of its log
}

// tailLines is how much of the log an error shows.
const tailLines = 20

// ErrNotRunning is returned when sigild is not running.
var ErrNotRunning = errors.New("sigild is not running")

// Start runs sigild and returns once it serves, with or without its devices, or with what it said when it
// did not come up.
func (h *Host) Start(ctx context.Context) error {
	p, err := h.launch()
	if err != nil {
		return err
	}
	select {
	case <-p.ready:
		h.process.Store(p)
		return nil
	case <-p.ended:
		return p.failure()
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.cmd.Process.Kill())
	}
}

func (h *Host) launch() (*process, error) {
	cmd := h.Command(context.Background(), "run")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		p.read(bufio.NewScanner(stderr), h.Log)
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// read follows the log to its end.
func (p *process) read(lines *bufio.Scanner, to func(string)) {
	ready := sync.OnceFunc(func() { close(p.ready) })
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, "msg=ready") || strings.Contains(line, `"msg":"ready"`) || strings.Contains(line, "msg=serving") {
			ready()
		}
		p.mu.Lock()
		p.tail = append(p.tail, line)
		p.tail = p.tail[max(len(p.tail)-tailLines, 0):]
		p.mu.Unlock()
		say(to, line)
	}
}

func (p *process) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &ExitError{Code: p.cmd.ProcessState.ExitCode(), Log: strings.Join(p.tail, "\n")}
}

// ExitError is how sigild ended when it should have run.
type ExitError struct {
	Code int
	Log  string // its last lines
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("sigild ended with exit code %d:\n%s", e.Code, e.Log)
}

// PID is the process id of the running sigild, 0 when there is none. It may be
// asked for by any goroutine.
func (h *Host) PID() int {
	p := h.process.Load()
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Stop asks sigild to end and waits for it.
func (h *Host) Stop() error { return h.end(syscall.SIGTERM) }

// Kill ends sigild as a power cut would.
func (h *Host) Kill() error {
	err := h.end(syscall.SIGKILL)
	var exit *ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func (h *Host) end(signal syscall.Signal) error {
	p := h.process.Swap(nil)
	if p == nil {
		return ErrNotRunning
	}
	err := p.cmd.Process.Signal(signal) // an error: it ended before
	<-p.ended
	if err != nil || p.err != nil {
		return errors.Join(err, p.failure())
	}
	return nil
}

// Wait waits until sigild ends by itself, and says how.
func (h *Host) Wait(ctx context.Context) error {
	p := h.process.Load()
	if p == nil {
		return ErrNotRunning
	}
	select {
	case <-p.ended:
		h.process.Store(nil)
		if p.err != nil {
			return p.failure()
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
