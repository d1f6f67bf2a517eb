package trainset

import (
	"encoding/json"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/dataset"
)

// table is one table of a format.
type table struct {
	path  func(part string) string
	write func(w io.Writer, rows func(yield func(dataset.Example) bool) error) error
}

var formats = map[string][]table{
	OpenAI:  {jsonl("", chatOf)},
	Axolotl: {jsonl("", taggedOf)},
	TRL:     {columns("messages/", taggedOf), columns("prompt-completion/", splitOf)},
	LlamaFactory: {
		jsonl("sharegpt-", shareGPTOf),
		jsonl("alpaca-", alpacaOf),
	},
}

type message struct {
	Role    string `json:"role" parquet:"role"`
	Content string `json:"content" parquet:"content"`
}

// chat is what OpenAI takes: nothing beside the messages.
type chat struct {
	Messages []message `json:"messages"`
}

// tagged has beside the messages where a row came from: seed or augmented, and its score (0 on seeds).
type tagged struct {
	Messages []message `json:"messages" parquet:"messages,list"`
	ID       string    `json:"id" parquet:"id"`
	Origin   string    `json:"origin" parquet:"origin"`
	Score    float64   `json:"score" parquet:"score"`
}

// split has what is given and what is to be learnt apart.
type split struct {
	Prompt     []message `parquet:"prompt,list"`
	Completion []message `parquet:"completion,list"`
	ID         string    `parquet:"id"`
	Origin     string    `parquet:"origin"`
	Score      float64   `parquet:"score"`
}

type turn struct {
	From  string `json:"from"`
	Value string `json:"value"`
}

type shareGPT struct {
	Conversations []turn `json:"conversations"`
	System        string `json:"system"`
	ID            string `json:"id"`
	Origin        string `json:"origin"`
}

type alpaca struct {
	Instruction string `json:"instruction"`
	Input       string `json:"input"`
	Output      string `json:"output"`
	System      string `json:"system"`
	ID          string `json:"id"`
	Origin      string `json:"origin"`
}

func given(e dataset.Example) []message {
	return []message{{"system", e.System}, {"user", e.Instruction}}
}

func answer(e dataset.Example) message { return message{"assistant", e.Output} }

func chatOf(e dataset.Example) chat { return chat{append(given(e), answer(e))} }

func taggedOf(e dataset.Example) tagged {
	return tagged{append(given(e), answer(e)), e.ID, e.Origin, e.Score}
}

func splitOf(e dataset.Example) split {
	return split{given(e), []message{answer(e)}, e.ID, e.Origin, e.Score}
}

func shareGPTOf(e dataset.Example) shareGPT {
	return shareGPT{[]turn{{"human", e.Instruction}, {"gpt", e.Output}}, e.System, e.ID, e.Origin}
}

func alpacaOf(e dataset.Example) alpaca {
	return alpaca{Instruction: e.Instruction, Output: e.Output, System: e.System, ID: e.ID, Origin: e.Origin}
}

func jsonl[T any](prefix string, of func(dataset.Example) T) table {
	return table{
		path: func(part string) string { return prefix + part + ".jsonl" },
		write: func(w io.Writer, rows func(func(dataset.Example) bool) error) error {
			lines := json.NewEncoder(w)
			lines.SetEscapeHTML(false)
			var failed error
			err := rows(func(e dataset.Example) bool {
				failed = lines.Encode(of(e))
				return failed == nil
			})
			if failed != nil {
				return failed
			}
			return err
		},
	}
}

// rowsPerGroup bounds what a reader holds at once.
const rowsPerGroup = 4096

func columns[T any](folder string, of func(dataset.Example) T) table {
	return table{
		path: func(part string) string { return folder + part + ".parquet" },
		write: func(w io.Writer, rows func(func(dataset.Example) bool) error) error {
			out := parquet.NewGenericWriter[T](w, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(rowsPerGroup), parquet.CreatedBy("selfalign", "1", ""))
			var failed error
			err := rows(func(e dataset.Example) bool {
				_, failed = out.Write([]T{of(e)})
				return failed == nil
			})
			if failed == nil {
				failed = err
			}
			if failed != nil {
				return failed
			}
			return out.Close()
		},
	}
}
