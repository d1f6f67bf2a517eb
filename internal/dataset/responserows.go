package dataset

import "strconv"

// The datasets of prompts and what models answered to them.
const (
	KindPrompts     Kind = "prompts"     // Prompt
	KindResponses   Kind = "responses"   // Response
	KindCurated     Kind = "curated"     // Scored
	KindPreferences Kind = "preferences" // Preference
)

// Prompt is something to ask a model. Its id is the digest of its texts, PromptIDOf.
type Prompt struct {
	ID          string `parquet:"id"`
	System      string `parquet:"system"` // "" is none
	Instruction string `parquet:"instruction"`
	Output      string `parquet:"output"` // an answer that came with the prompt, such as a human's; models never see it
	Source      string `parquet:"source"`
	Document    string `parquet:"document"`
	Offset      int64  `parquet:"offset"`
}

// Response is one answer to a prompt. The first keeps the prompt's id, further ones have ids of their own in the same
// partition; all name the prompt.
type Response struct {
	ID          string `parquet:"id"`
	PromptID    string `parquet:"prompt_id"`
	Sample      int32  `parquet:"sample"` // from 1
	System      string `parquet:"system"`
	Instruction string `parquet:"instruction"`
	Output      string `parquet:"output"` // the answer
	Generator   string `parquet:"generator"`
	Prompt      string `parquet:"prompt"` // template that asked for it, as name@version-digest; "" where nobody was asked
	Source      string `parquet:"source"`
	Document    string `parquet:"document"`
	Offset      int64  `parquet:"offset"`
}

// Scored is a response with its score: a row of what the generate-and-score recipe makes.
type Scored struct {
	ID               string  `parquet:"id"`
	PromptID         string  `parquet:"prompt_id"`
	Sample           int32   `parquet:"sample"`
	System           string  `parquet:"system"`
	Instruction      string  `parquet:"instruction"`
	Generation       string  `parquet:"generation"`
	GenerationModel  string  `parquet:"generation_model"`
	GenerationPrompt string  `parquet:"generation_prompt"`
	Score            float64 `parquet:"score"` // from 1 to 5
	Reason           string  `parquet:"reason"`
	ScoringModel     string  `parquet:"scoring_model"`
	ScoringPrompt    string  `parquet:"scoring_prompt"`
	Source           string  `parquet:"source"`
	Document         string  `parquet:"document"`
	Offset           int64   `parquet:"offset"`
}

// Preference is the best and the worst answer to one prompt. Its id is the prompt's.
type Preference struct {
	ID             string  `parquet:"id"`
	System         string  `parquet:"system"`
	Prompt         string  `parquet:"prompt"`
	Chosen         string  `parquet:"chosen"`
	Rejected       string  `parquet:"rejected"`
	ChosenScore    float64 `parquet:"chosen_score"`
	RejectedScore  float64 `parquet:"rejected_score"`
	ChosenReason   string  `parquet:"chosen_reason"`
	RejectedReason string  `parquet:"rejected_reason"`
	Model          string  `parquet:"generation_model"`
	ScoringModel   string  `parquet:"scoring_model"`
	Source         string  `parquet:"source"`
	Document       string  `parquet:"document"`
	Offset         int64   `parquet:"offset"`
}

// PromptIDOf returns the id of a prompt with a system prompt; without one it is PromptID.
func PromptIDOf(system, instruction string) string {
	if system == "" {
		return PromptID(instruction)
	}
	return contentID("prompt", instruction, system)
}

// ResponseID returns the id of one of several answers to a prompt, counted from 1. It lives in the prompt's partition,
// whatever the number of partitions; the first answer has the prompt's own id.
func ResponseID(prompt string, sample int) string {
	const prefix = 8 // characters: 32 bits, more than MaxBits
	if sample <= 1 || len(prompt) < prefix {
		return prompt
	}
	return prompt[:prefix] + contentID("response", prompt, strconv.Itoa(sample))[prefix:]
}

// RowID returns the digest of the prompt's texts.
func (r Prompt) RowID() string { return r.ID }

// RowID returns ResponseID of the prompt and the sample.
func (r Response) RowID() string { return r.ID }

// RowID returns the id of the response.
func (r Scored) RowID() string { return r.ID }

// RowID returns the id of the prompt.
func (r Preference) RowID() string { return r.ID }

// GivenResponseID returns the id of an answer that came with its prompt: the digest of both, in the prompt's partition.
func GivenResponseID(prompt, answer string) string {
	const prefix = 8
	if len(prompt) < prefix {
		return prompt
	}
	return prompt[:prefix] + contentID("response", prompt, "", answer)[prefix:]
}
