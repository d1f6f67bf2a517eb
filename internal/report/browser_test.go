//go:build browser

package report

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browser is a Chromium that is driven over its own pipe: the DevTools protocol as JSON messages that end with a zero byte.
type browser struct {
	t       *testing.T
	to      *os.File
	answers chan message
	session string
	next    int
	seen    []message // events
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

func open(t *testing.T) *browser {
	t.Helper()
	program := os.Getenv("CHROMIUM")
	if program == "" {
		program = "chromium"
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, to: ourOut, answers: make(chan message, 1000)}
	_, _ = theirIn.Close(), theirOut.Close()
	go func() {
		defer close(b.answers)
		r := bufio.NewReaderSize(ourIn, 1<<20)
		for {
			line, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(line[:len(line)-1], &m) == nil {
				b.answers <- m
			}
		}
	}()
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil, nil)
		_ = ourOut.Close()
		_ = cmd.Wait()
	})
	return b
}

// call sends a command and waits for its answer; events on the way are kept.
func (b *browser) call(method string, params, into any) {
	b.t.Helper()
	b.next++
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	if params == nil {
		raw = []byte("{}")
	}
	body, err := json.Marshal(message{ID: b.next, Method: method, Params: raw, SessionID: b.session})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(body, 0)); err != nil {
		b.t.Fatal(err)
	}
	m := b.until(func(m message) bool { return m.ID == b.next })
	if m.Error != nil {
		b.t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if into != nil {
		if err := json.Unmarshal(m.Result, into); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *browser) until(wanted func(message) bool) message {
	b.t.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case m, ok := <-b.answers:
			if !ok {
				b.t.Fatal("the browser is gone")
			}
			if wanted(m) {
				return m
			}
			if m.Method != "" {
				b.seen = append(b.seen, m)
			}
		case <-late:
			b.t.Fatal("the browser does not answer")
		}
	}
}

type params = map[string]any

// show opens a file in a new tab of a size, in a colour scheme, and waits until it is loaded.
func (b *browser) show(file string, width, height int, scheme, media string, script bool) {
	b.t.Helper()
	b.session, b.seen = "", nil
	var target struct{ TargetID string }
	b.call("Target.createTarget", params{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", params{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Emulation.setDeviceMetricsOverride", params{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.call("Emulation.setEmulatedMedia", params{"media": media, "features": []params{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Emulation.setScriptExecutionDisabled", params{"value": !script}, nil)
	b.call("Page.navigate", params{"url": "file://" + file}, nil)
	b.until(func(m message) bool { return m.Method == "Page.loadEventFired" })
}

// eval returns the value of an expression in the page.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	var out struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Text string }
	}
	b.call("Runtime.evaluate", params{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if out.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, out.ExceptionDetails.Text)
	}
	return out.Result.Value
}

// quiet fails when the page asked for anything but itself, or the console has a word of it.
func (b *browser) quiet() {
	b.t.Helper()
	b.eval("1") // what came before is here now
	for _, m := range b.seen {
		switch m.Method {
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			_ = json.Unmarshal(m.Params, &p)
			if !strings.HasPrefix(p.Request.URL, "file://") && !strings.HasPrefix(p.Request.URL, "data:,") {
				b.t.Errorf("the page asks for %s", p.Request.URL)
			}
		case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening":
			b.t.Errorf("%s: %.600s", m.Method, m.Params)
		}
	}
}

// picture writes the whole page, or what a selector names, where SHOTS says.
func (b *browser) picture(name, selector string) {
	b.t.Helper()
	dir := os.Getenv("SHOTS")
	if dir == "" {
		dir = b.t.TempDir()
	}
	clip := b.eval(fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return {x: 0, y: r.y + scrollY, width: innerWidth, height: Math.min(r.height, 16000), scale: 1}; })()`, selector))
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", params{"format": "png", "captureBeyondViewport": true, "clip": clip}, &shot)
	b.keep(filepath.Join(dir, name+".png"), shot.Data, 5_000)
}

func (b *browser) keep(path, data string, least int) {
	b.t.Helper()
	body, err := base64.StdEncoding.DecodeString(data)
	if err != nil || len(body) < least {
		b.t.Fatalf("%s: %d bytes, %v", path, len(body), err)
	}
	if err := os.WriteFile(path, body, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func pageFile(t *testing.T, d Data) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(HTML(f, d), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBrowser(t *testing.T) {
	b := open(t)
	plain := pageFile(t, build(t, 420, "", Options{}))
	if given := os.Getenv("REPORT"); given != "" { // a report of one's own, to look at
		plain = given
	}
	hostile := pageFile(t, build(t, 420, spice, Options{}))
	for _, c := range []struct {
		name, file, scheme, media string
		width                     int
		script                    bool
	}{
		{"light", plain, "light", "screen", 1200, true},
		{"dark", plain, "dark", "screen", 1200, true},
		{"phone", plain, "light", "screen", 390, true},
		{"phone-dark", plain, "dark", "screen", 390, true},
		{"small-phone", plain, "light", "screen", 320, true},
		{"tablet", plain, "light", "screen", 800, true},
		{"print", plain, "dark", "print", 794, true},
		{"without-script", plain, "light", "screen", 1200, false},
		{"hostile", hostile, "light", "screen", 390, true},
	} {
		b.show(c.file, c.width, 900, c.scheme, c.media, c.script)
		if over := b.eval("document.documentElement.scrollWidth - innerWidth").(float64); over > 0 {
			widest := b.eval(`[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll,nav,pre,.skip") && e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map(e => e.tagName + "." + e.className).join(", ")`)
			t.Errorf("%s: the page is %g px wider than the screen: %v", c.name, over, widest)
		}
		if size := b.eval(`Math.min(...[...document.querySelectorAll("body *")].filter(e => e.childNodes.length && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.getClientRects().length && !e.closest("svg,.vh,script,sup,sub")).map(e => parseFloat(getComputedStyle(e).fontSize)))`).(float64); size < 11 && c.media == "screen" {
			t.Errorf("%s: text of %g px", c.name, size)
		}
		if low := b.eval(contrast); low != "" {
			t.Errorf("%s: hard to read: %v", c.name, low)
		}
		if shown := b.eval(`!document.querySelector("#filter")?.hidden`).(bool); shown != c.script {
			t.Errorf("%s: the filter shows: %v", c.name, shown)
		}
		if c.script && c.media == "screen" {
			b.filters(c.name)
		}
		b.quiet()
		b.picture(c.name, "body")
		if c.media == "print" {
			var pdf struct{ Data string }
			b.call("Page.printToPDF", params{"printBackground": true}, &pdf)
			b.keep(filepath.Join(t.TempDir(), "report.pdf"), pdf.Data, 20_000)
		}
	}
	if b.t.Failed() {
		return
	}
	b.keyboard(plain)
	b.live(t)
}

// contrast names texts whose colour is too near that of what is behind them (WCAG AA: 4.5, large ones 3).
const contrast = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg,script,.vh,.skip") || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    let behind = e, back = [0, 0, 0, 0];
    while (behind && back[3] < 255) { back = rgba(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
    if (back[3] < 255) back = [255, 255, 255, 255];
    const style = getComputedStyle(e), a = lum(rgba(style.color)), b = lum(back), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) bad.push(e.tagName + "." + e.className + " " + ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 30));
  }
  return [...new Set(bad)].slice(0, 5).join("; ");
})()`

// filters finds pairs by score and by words.
func (b *browser) filters(name string) {
	b.t.Helper()
	count := func() float64 {
		return b.eval(`document.querySelectorAll("#samples article:not([hidden])").length`).(float64)
	}
	all := count()
	b.eval(`(() => { const p = document.querySelector("#filter input[type=checkbox]"); p.click(); })()`)
	fewer := count()
	b.eval(`(() => { const p = document.querySelector("#filter input[type=checkbox]"); p.click(); })()`)
	b.eval(`(() => { const f = document.querySelector("#filter input[type=search]"); f.value = document.querySelector("#samples article code").textContent; f.dispatchEvent(new Event("input", {bubbles: true})); })()`)
	one, open := count(), b.eval(`!!document.querySelector("#samples article:not([hidden])")?.closest("details").open`)
	b.eval(`(() => { const f = document.querySelector("#filter input[type=search]"); f.value = "no pair has this"; f.dispatchEvent(new Event("input", {bubbles: true})); })()`)
	none, said := count(), b.eval(`document.querySelector("#filter output").textContent`)
	b.eval(`(() => { const f = document.querySelector("#filter input[type=search]"); f.value = ""; f.dispatchEvent(new Event("input", {bubbles: true})); })()`)
	if back := count(); all < 6 || fewer >= all || one != 1 || open != true || none != 0 || back != all || said != fmt.Sprintf("0 of %g pairs", all) {
		b.t.Errorf("%s: %g pairs, without one score %g, by its id %g (open: %v), by nonsense %g (%v), then %g", name, all, fewer, one, open, none, said, back)
	}
}

// keyboard goes through the page by tabulator: everything that can be used is reached, and seen.
func (b *browser) keyboard(file string) {
	b.t.Helper()
	b.show(file, 1200, 900, "light", "screen", true)
	reached := map[string]bool{}
	for range 60 {
		for _, kind := range []string{"rawKeyDown", "keyUp"} {
			b.call("Input.dispatchKeyEvent", params{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
		}
		reached[fmt.Sprint(b.eval(`(() => { const e = document.activeElement; return e.tagName + (getComputedStyle(e).outlineStyle === "none" && !e.matches(".skip") ? " unseen" : ""); })()`))] = true
	}
	for _, want := range []string{"A", "DIV", "SUMMARY"} {
		if !reached[want] || reached[want+" unseen"] {
			b.t.Errorf("by keyboard: %v", reached)
		}
	}
}

// live has an open page follow its file.
func (b *browser) live(t *testing.T) {
	d := build(t, 60, "", Options{})
	d.Refresh, d.Phase = 1, "running"
	file := pageFile(t, d)
	b.show(file, 1200, 900, "light", "screen", true)
	b.eval(`document.querySelector("#spec details").open = true`)
	d.Phase, d.Refresh = "completed", 0
	next := pageFile(t, d)
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if b.eval(`document.querySelector(".badge")?.textContent`) == "completed" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the page does not follow its file")
}
