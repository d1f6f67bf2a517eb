package main

import (
	"math/rand/v2"
	"strings"
)

// Lengths of segments as in the paper: 1.7 ± 0.6 KB, within the bounds of ingest.
const (
	meanLength, deviation     = 1700, 600
	shortestText, longestText = 650, 2950
)

// vocabulary are English words, of which texts are made that any filter takes for English.
var vocabulary = strings.Fields(`the a of and to in is that it for was on are as with his they at be this from have or by one had not but what all
were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two
like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words
called just where most know get through back much before go good new write our used me man too any day same right look think also around another
came come work three word must because does part even place well such here take why things help put years different away again off went old number
great tell men say small every found still between name should home big give air line set own under read last never us left end along while might
next sound below saw something thought both few those always looked show large often together asked house world going want school important until
form food keep children feet land side without boy once animals life enough took sometimes four head above kind began almost live page got earth
need far hand high year mother light parts country father let night following picture being study second eyes soon times story boys since white
days ever paper hard near sentence better best across during today others however sure means knew try told young miles sun ways thing whole hear
example heard several change answer room sea against top turned learn point city play toward five using himself usually money seen car morning`)

// text is the i-th text of a seed: sentences and paragraphs of realistic length, the same at every call.
func text(seed uint64, i int) string {
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	want := min(longestText, max(shortestText, int(meanLength+deviation*rng.NormFloat64())))
	var b strings.Builder
	b.Grow(want + 32)
	for b.Len() < want {
		for n := 6 + rng.IntN(14); n >= 0; n-- {
			word := vocabulary[min(rng.IntN(len(vocabulary)), rng.IntN(len(vocabulary)))]
			if n == 0 {
				b.WriteString(word + ". ")
			} else {
				b.WriteString(word + " ")
			}
		}
		if rng.IntN(6) == 0 && b.Len() < want {
			b.WriteString("\n\n")
		}
	}
	return strings.TrimSpace(b.String())
}
