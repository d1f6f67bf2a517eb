package corpus

import (
	"encoding/json"
	"fmt"
)

// Flat messages come in the order of their trees, so few roots wait at a time. These bound a file that does otherwise;
// a root that is pushed out counts as one without a reply.
const (
	maxPendingRoots = 50_000
	maxPendingBytes = 32 << 20
)

// message is one message of the Open Assistant exports (OpenAssistant/oasst1 and oasst2).
type message struct {
	MessageID string  `json:"message_id"`
	ParentID  *string `json:"parent_id"`
	Text      string  `json:"text"`
	Role      string  `json:"role"` // prompter or assistant
	Lang      string  `json:"lang"`
	Rank      *int    `json:"rank"` // among its siblings, 0 is best
	Deleted   bool    `json:"deleted"`
}

// conversation is a message with its direct replies; what follows those is not read.
type conversation struct {
	Prompt *struct {
		message
		Replies []message `json:"replies"`
	} `json:"prompt"`
}

// root is a first question that waits for its reply.
type root struct {
	at       origin
	id, text string
}

// pendingRoots keeps roots in the order in which they came.
type pendingRoots struct {
	byID  map[string]root
	order []string
	bytes int
}

// tree makes one row of a conversation.
func (sd *seeder) tree(at origin, line []byte) bool {
	var conv conversation
	if err := json.Unmarshal(line, &conv); err != nil {
		return sd.yield(at.reject(ReasonBadRecord, jsonDetail(err), printable(line)))
	}
	if conv.Prompt == nil {
		return sd.yield(at.reject(ReasonBadRecord, "no prompt", printable(line)))
	}
	prompt := conv.Prompt
	if reason, detail := sd.unfit(prompt.message); reason != "" {
		return sd.yield(at.reject(reason, detail, prompt.Text))
	}
	for _, reply := range prompt.Replies {
		if reply.Role == "assistant" && reply.Rank != nil && *reply.Rank == 0 {
			return sd.answer(at, prompt.Text, reply)
		}
	}
	return sd.yield(at.reject(ReasonNoReply, fmt.Sprintf("%d replies, none of rank 0", len(prompt.Replies)), prompt.Text))
}

// answer makes a row of a question and its best reply.
func (sd *seeder) answer(at origin, question string, reply message) bool {
	if reason, detail := sd.unfit(reply); reason != "" {
		it := at.reject(reason, "reply: "+detail, reply.Text)
		it.Reject.Instruction = clip(question, RejectTextChars)
		return sd.yield(it)
	}
	return sd.emit(at, question, reply.Text)
}

// unfit says why a message may not be used.
func (sd *seeder) unfit(m message) (reason, detail string) {
	switch {
	case m.Deleted:
		return ReasonDeleted, "message " + clip(m.MessageID, 64)
	case sd.opts.Language != "any" && m.Lang != sd.opts.Language:
		return ReasonLanguage, fmt.Sprintf("%s, %s wanted", clip(m.Lang, 16), sd.opts.Language)
	}
	return "", ""
}

// message handles one line of a flat export: a root waits, its reply of rank 0 makes the row, anything deeper in the
// conversation is no input of ours.
func (sd *seeder) message(at origin, line []byte) bool {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return sd.yield(at.reject(ReasonBadRecord, jsonDetail(err), printable(line)))
	}
	if m.ParentID == nil || *m.ParentID == "" {
		if m.Role != "prompter" {
			return sd.yield(at.reject(ReasonBadRecord, "a conversation that no prompter begins", m.Text))
		}
		if reason, detail := sd.unfit(m); reason != "" {
			return sd.yield(at.reject(reason, detail, m.Text))
		}
		return sd.wait(root{at: at, id: m.MessageID, text: m.Text})
	}
	if m.Role != "assistant" || m.Rank == nil || *m.Rank != 0 {
		return true
	}
	question, ok := sd.roots.take(*m.ParentID)
	if !ok {
		return true
	}
	return sd.answer(question.at, question.text, m)
}

// wait keeps a root, and lets the oldest go when there are too many.
func (sd *seeder) wait(r root) bool {
	p := &sd.roots
	if p.byID == nil {
		p.byID = map[string]root{}
	}
	if old, ok := p.take(r.id); ok && !sd.yield(old.at.reject(ReasonBadRecord, "message_id appears twice", old.text)) {
		return false
	}
	p.byID[r.id] = r
	p.order = append(p.order, r.id)
	p.bytes += len(r.text) + len(r.id)
	for len(p.byID) > maxPendingRoots || p.bytes > maxPendingBytes {
		if !sd.pushOut() {
			return false
		}
	}
	if len(p.order) > 2*len(p.byID)+1024 {
		p.compact()
	}
	return true
}

// take removes a root.
func (p *pendingRoots) take(id string) (root, bool) {
	r, ok := p.byID[id]
	if ok {
		delete(p.byID, id)
		p.bytes -= len(r.text) + len(r.id)
	}
	return r, ok
}

// compact forgets the order of roots that are gone.
func (p *pendingRoots) compact() {
	kept := p.order[:0]
	for _, id := range p.order {
		if _, ok := p.byID[id]; ok {
			kept = append(kept, id)
		}
	}
	p.order = kept
}

// pushOut rejects the oldest root.
func (sd *seeder) pushOut() bool {
	for len(sd.roots.order) > 0 {
		id := sd.roots.order[0]
		sd.roots.order = sd.roots.order[1:]
		if r, ok := sd.roots.take(id); ok {
			return sd.yield(r.at.reject(ReasonNoReply, "no reply of rank 0", r.text))
		}
	}
	return true
}

// leftovers rejects the roots that no reply came for. It reports whether more may be yielded.
func (sd *seeder) leftovers() bool {
	for len(sd.roots.byID) > 0 {
		if !sd.pushOut() {
			return false
		}
	}
	return true
}
