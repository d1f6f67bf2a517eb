package report

// Paper is a row of the paper's table of data sizes and lengths (arXiv 2308.06259, table 2).
type Paper struct {
	Name        string `json:"name"`
	Rows        int64  `json:"rows"`
	Instruction Length `json:"instruction"`
	Output      Length `json:"output"`
}

var (
	paperSeed = &Paper{"seed data", 3200, Length{148, 322}, Length{1072, 818}}
	paperA5   = &Paper{"A5 of iteration 2", 41821, Length{115, 175}, Length{1663, 616}}
	paperA4   = &Paper{"A4 of iteration 2", 195043, Length{206, 298}, Length{1985, 649}}
	paperA    = &Paper{"all of A", 502133, Length{352, 134}, Length{1722, 653}}
)

// selectionQuality is how well judges of the paper selected good pairs from 250, of which about one in five was good
// (arXiv 2308.06259, on the quality of the selection in each iteration).
var selectionQuality = []struct {
	Judge             string
	Precision, Recall float64
}{{"M0", 0.44, 0.09}, {"M1", 0.52, 0.44}, {"GPT-4", 0.88, 0.92}}

// paperRates are win rates of AlpacaEval 1 as the paper tells them, in percent.
var paperRates = []struct {
	Model string
	Rate  float64
}{
	{"GPT-4", 95.28},
	{"LLaMA2-Chat 70B", 92.66},
	{"Humpback 70B (LLaMA 2)", 87.94},
	{"Humpback 65B", 83.71},
	{"Humpback 33B", 79.84},
	{"Guanaco 65B", 71.80},
	{"OASST-RLHF 33B", 66.52},
	{"LIMA 65B", 62.70},
}

// PaperScaling are the paper's coefficients of win rate = α log N + C for models of 7B; the base of the logarithm is not told.
var PaperScaling = []struct {
	Data  string
	Alpha float64
}{
	{"Humpback, instruction backtranslation", 6.95}, {"WizardLLM", 5.69}, {"Alpaca-GPT4", 5.40}, {"Vicuna", 4.53}, {"OA", 4.43}, {"LIMA", 2.86}, {"Alpaca", 1.99}, {"FLAN v2", 0.22},
}

// meanings explains reasons for turning a row away that a reader may not guess.
var meanings = map[string]string{
	"too_short":               "shorter than a segment may be",
	"too_long":                "longer than a segment may be, with no lower header to cut at; segments.long: cut parts it between paragraphs",
	"navigation_header":       "under a header of navigation or advertising",
	"uppercase_header":        "under a header in capitals",
	"empty_header":            "under no header",
	"repetitive":              "two sentences say nearly the same",
	"odd_signs":               "has one of the signs not wanted",
	"personal":                "has many personal pronouns",
	"questions":               "has many question marks",
	"capital_words":           "has many words in capitals",
	"few_steps":               "few paragraphs begin with a verb",
	"invalid_utf8":            "bytes that stand for no character",
	"missing_file":            "a file on a list that is not there",
	"unreadable_file":         "a file that the place where it lies will not give",
	"missing_field":           "a record without the field that holds its text",
	"held_out":                "a seed pair that models are compared on and not trained on",
	"wrong_language":          "not in the language wanted",
	"duplicate":               "the same text as another row",
	"near_duplicate":          "almost the same text as another row",
	"no_content":              "nothing to read on the page",
	"binary":                  "not text",
	"bad_record":              "not the record that was expected",
	"no_score":                "the judge gave no readable score",
	"score_out_of_range":      "the judge's score is not from 1 to 5",
	"score_ambiguous":         "the judge's score line names more than one number",
	"score_not_a_number":      "the judge's score is no number",
	"answer_cut":              "the answer ended at max_tokens",
	"answer_too_long":         "the answer is longer than what was asked for may be",
	"answer_empty":            "the answer is empty",
	"answer_echoes_prompt":    "the answer repeats the question",
	"contaminated":            "shares an n-gram of words with an evaluation set",
	"long_instruction":        "its instruction is longer than wanted",
	"instruction_word":        "its instruction has a word that is not wanted",
	"below_threshold":         "rated, and not good enough for the training set",
	"no_instruction":          "the backward model wrote no usable instruction",
	"refusal":                 "the model declined to answer",
	"content_filter":          "the provider's filter refused it",
	"context_length_exceeded": "longer than the model can read",
	"deleted":                 "deleted by a moderator",
	"no_reply":                "no usable reply",
	"extraction_failed":       "the page could not be read",
	"too_large":               "a document beyond the size limit",
	"bomb":                    "compression beyond any honest ratio",
	"bad_gzip":                "broken compression",
	"bad_zstd":                "broken compression",
	"bad_parquet":             "a broken Parquet file",
	"bad_archive":             "a broken archive",
	"bad_encoding":            "a page in an encoding that cannot be undone",
	"not_html":                "a response that is no page",
	"not_text":                "neither a page nor a text",
	"not_records":             "a file in an archive that holds no records by its name",
	"http_status":             "an archived response that is no success",
	"too_deep":                "nested deeper than a reader allows",
	"too_many_pieces":         "too many sections in one document",
	"line_too_long":           "a line beyond the size limit",
	"empty_field":             "one side of the pair is empty",
	"provider_error":          "the provider refused the request for good",
	"attempts_used_up":        "no readable answer in the attempts allowed",
	"instruction_missing":     "no instruction in the answer",
}
