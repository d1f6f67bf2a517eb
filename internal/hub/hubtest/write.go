package hubtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

const maxSample = 512

func (s *Server) preupload(w http.ResponseWriter, r *http.Request, c *commit) {
	var in struct {
		Files []struct {
			Path   string `json:"path"`
			Size   int64  `json:"size"`
			Sample string `json:"sample"`
		} `json:"files"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Files) > 256 {
		fail(w, http.StatusBadRequest, "", "expected up to 256 files")
		return
	}
	ignored := strings.Fields(string(c.files[".gitignore"].content))
	out := []map[string]any{}
	for _, f := range in.Files {
		sample, err := base64.StdEncoding.DecodeString(f.Sample)
		if err != nil || len(sample) > maxSample || int64(len(sample)) != min(f.Size, maxSample) {
			fail(w, http.StatusBadRequest, "", f.Path+": expected a sample of 512 bytes in base64")
			return
		}
		mode := "regular"
		if strings.HasSuffix(f.Path, ".parquet") || f.Size > 10<<20 || bytes.IndexByte(sample, 0) >= 0 {
			mode = "lfs"
		}
		answer := map[string]any{"path": f.Path, "uploadMode": mode, "shouldIgnore": slices.Contains(ignored, path.Base(f.Path))}
		if e, ok := c.files[f.Path]; ok {
			answer["oid"] = e.gitOID()
			if e.large() {
				answer["oid"] = e.oid
			}
		}
		out = append(out, answer)
	}
	answer(w, map[string]any{"files": out})
}

func (s *Server) batch(w http.ResponseWriter, r *http.Request, rp *repo) {
	who := s.account(r)
	if !who.owns(rp.id) || !who.Write {
		fail(w, http.StatusForbidden, "", "you have no write access to this repository")
		return
	}
	var in struct {
		Operation string   `json:"operation"`
		Transfers []string `json:"transfers"`
		HashAlgo  string   `json:"hash_algo"`
		Objects   []struct {
			OID  string `json:"oid"`
			Size int64  `json:"size"`
		} `json:"objects"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Operation != "upload" || in.HashAlgo != "sha256" || len(in.Objects) > 256 {
		fail(w, http.StatusBadRequest, "", "expected an upload of up to 256 objects")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	objects := []map[string]any{}
	for _, o := range in.Objects {
		entry := map[string]any{"oid": o.OID, "size": o.Size}
		objects = append(objects, entry)
		if _, ok := s.objects[o.OID]; ok {
			continue
		}
		if len(o.OID) != 64 || o.Size <= 0 {
			entry["error"] = map[string]any{"code": 422, "message": "not an object"}
			continue
		}
		upload := map[string]any{"href": s.sign(s.blobURL, "/put/"+o.OID)}
		if o.Size > s.opt.PartSize && slices.Contains(in.Transfers, "multipart") {
			s.clock++
			id := fmt.Sprintf("u%d", s.clock)
			header := map[string]string{"chunk_size": strconv.FormatInt(s.opt.PartSize, 10)}
			for n := int64(1); (n-1)*s.opt.PartSize < o.Size; n++ {
				header[fmt.Sprintf("%05d", n)] = s.sign(s.blobURL, fmt.Sprintf("/part/%s/%d", id, n))
			}
			upload = map[string]any{"href": s.sign(s.hubURL, "/complete/"+id+"/"+o.OID), "header": header}
		}
		verify := map[string]any{"href": s.hubURL + "/datasets/" + rp.id + ".git/info/lfs/objects/verify"}
		entry["actions"] = map[string]any{"upload": upload, "verify": verify}
	}
	answer(w, map[string]any{"transfer": "basic", "objects": objects})
}

// complete puts the parts of an upload together.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, id, oid string) {
	if !s.signed(r) {
		fail(w, http.StatusForbidden, "", "request has expired")
		return
	}
	var in struct {
		OID   string `json:"oid"`
		Parts []struct {
			Number int    `json:"partNumber"`
			ETag   string `json:"etag"`
		} `json:"parts"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.OID != oid {
		fail(w, http.StatusBadRequest, "", "expected the parts of the object")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var whole []byte
	for i, p := range in.Parts {
		part := s.parts[id][p.Number]
		sum := sha256.Sum256(part)
		if p.Number != i+1 || p.ETag != `"`+hex.EncodeToString(sum[:16])+`"` {
			fail(w, http.StatusBadRequest, "", fmt.Sprintf("part %d is not what was sent", p.Number))
			return
		}
		whole = append(whole, part...)
	}
	if sum := sha256.Sum256(whole); hex.EncodeToString(sum[:]) != oid {
		fail(w, http.StatusBadRequest, "", "the content does not match its digest")
		return
	}
	s.objects[oid] = whole
	answer(w, map[string]any{})
}

func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	var in struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	defer s.mu.Unlock()
	if content, ok := s.objects[in.OID]; err != nil || !ok || int64(len(content)) != in.Size {
		fail(w, http.StatusUnprocessableEntity, "", "the object is not there")
		return
	}
	answer(w, map[string]any{"success": true})
}

// operation is one line of a commit.
type operation struct {
	Key   string `json:"key"`
	Value struct {
		Summary      string `json:"summary"`
		Description  string `json:"description"`
		ParentCommit string `json:"parentCommit"`
		Path         string `json:"path"`
		Content      string `json:"content"`
		Encoding     string `json:"encoding"`
		Algo         string `json:"algo"`
		OID          string `json:"oid"`
	} `json:"value"`
}

func (s *Server) commit(w http.ResponseWriter, r *http.Request, rp *repo, branch string) {
	bad := func(message string) { fail(w, http.StatusBadRequest, "", message) }
	if ct := r.Header.Get("Content-Type"); ct != "application/x-ndjson" {
		bad("expected application/x-ndjson, not " + ct)
		return
	}
	var ops []operation
	lines := bufio.NewReader(r.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var op operation
			if json.Unmarshal(line, &op) != nil {
				bad("a line that is no JSON")
				return
			}
			ops = append(ops, op)
		}
		if err == io.EOF { //nolint:errorlint // readers return io.EOF itself
			break
		}
		if err != nil {
			return // broken off: nothing is committed
		}
	}
	if len(ops) == 0 || ops[0].Key != "header" || ops[0].Value.Summary == "" {
		bad("expected a header with a summary first")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	head, ok := rp.branches[branch]
	if !ok {
		fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+branch)
		return
	}
	if p := ops[0].Value.ParentCommit; p != "" && p != head {
		fail(w, http.StatusPreconditionFailed, "", "A commit has happened since. Please refresh and try again.")
		return
	}
	files := maps.Clone(rp.commits[head].files)
	for _, op := range ops[1:] {
		v := op.Value
		if v.Path == "" || path.Clean("/" + v.Path)[1:] != v.Path {
			bad("invalid path " + strconv.Quote(v.Path))
			return
		}
		switch op.Key {
		case "file":
			content, err := base64.StdEncoding.DecodeString(v.Content)
			if err != nil || v.Encoding != "base64" {
				bad("expected base64")
				return
			}
			files[v.Path] = entry{content: content, size: int64(len(content))}
		case "lfsFile":
			content, ok := s.objects[v.OID]
			if !ok || v.Algo != "sha256" {
				bad("no LFS object " + v.OID)
				return
			}
			files[v.Path] = entry{oid: v.OID, size: int64(len(content))}
		case "deletedFile":
			if _, ok := files[v.Path]; !ok {
				fail(w, http.StatusNotFound, "EntryNotFound", "A file with this name doesn't exist")
				return
			}
			delete(files, v.Path)
		default:
			bad("unknown operation " + op.Key)
			return
		}
	}
	id := s.add(rp, branch, ops[0].Value.Summary, ops[0].Value.Description, files)
	answer(w, map[string]any{"success": true, "commitOid": id, "commitUrl": s.hubURL + "/datasets/" + rp.id + "/commit/" + id, "hookOutput": ""})
}
