package ipc

// skipFactor is how far past the size limit a value is skipped, in multiples
// of the limit, before the connection is given up.
const skipFactor = 16

// An event is what the scanner found.
type event uint8

const (
	eventMore         event = iota // all bytes consumed, the value goes on
	eventValue                     // a value is complete and in scanner.value
	eventSkipped                   // the value that was refused has ended
	eventGarbage                   // no value can begin here: the stream is lost
	eventTooLarge                  // refused from here on: larger than the limit
	eventTooDeep                   // refused: nested deeper than the limit
	eventBatchTooLong              // refused: more elements than the limit
	eventEndless                   // refused and longer than can be skipped
)

type scanState uint8

const (
	stateBetween   scanState = iota // before a value
	stateContainer                  // in an object or array, not in a string
	stateString                     // in a string
	stateEscape                     // after a backslash in a string
	stateNumber                     // in a number that is not in a container
	stateWord                       // in true, false or null, the same
)

// A scanner finds the ends of JSON values in a stream. It looks at quotes,
// escapes and brackets only; whether the value is JSON is for its receiver to
// say. It holds at most one value of at most maxBytes, and no more than twice
// that in capacity.
type scanner struct {
	maxBytes, maxDepth, maxBatch int

	value    []byte // the current value; valid until the next call of scan
	state    scanState
	depth    int
	isArray  bool   // the current value is an array
	isObject bool   // the current value is an object
	elements int    // commas seen at the array's own level, plus one
	word     string // what stateWord still expects
	refused  bool   // the rest of the value is skipped
	rest     refusedValue
	total    int  // bytes of the current value, skipped ones included
	done     bool // value was handed out
}

// begun reports whether a part of a value has been read.
func (s *scanner) begun() bool { return s.state != stateBetween }

// skipping reports whether the current value was refused and is not at its end.
func (s *scanner) skipping() bool { return s.refused && !s.done }

// wipe clears and drops what the scanner holds of the value.
func (s *scanner) wipe() {
	clear(s.value)
	s.value = nil
}

// take returns the complete value and leaves it to the caller.
func (s *scanner) take() []byte {
	v := s.value
	s.value = nil
	return v
}

// scan reads p up to the next event and returns the number of bytes consumed.
// After a refusal (eventTooLarge, eventTooDeep, eventBatchTooLong) it goes on
// with the rest of the value and ends it with eventSkipped.
func (s *scanner) scan(p []byte) (int, event) {
	if s.done {
		s.reset()
	}
	start, i := 0, 0
	if s.state == stateBetween {
		if start = skipSpace(p, 0); start == len(p) {
			return len(p), eventMore
		}
		if ev := s.begin(p[start]); ev != eventMore {
			return start + 1, ev
		}
		i = start + 1
	}
	end := min(len(p), start+s.room())
	n, ev := s.run(p[:end], i)
	if ev == eventMore && end < len(p) {
		ev = s.overflow(p[end])
	}
	return n, s.keep(p[start:n], ev)
}

// run steps through p from index i and returns the index after the last byte
// consumed.
func (s *scanner) run(p []byte, i int) (int, event) {
	for ; i < len(p); i++ {
		switch {
		case s.state == stateString:
			from := i
			i = quoteOrEscape(p, i)
			s.atLevelOne(p[from:i])
			if i == len(p) {
				return i, eventMore
			}
		case s.state == stateNumber && !isNumberByte(p[i]):
			return i, s.finish()
		}
		s.atLevelOne(p[i : i+1])
		if ev := s.step(p[i]); ev != eventMore {
			return i + 1, ev
		}
	}
	return i, eventMore
}

// atLevelOne keeps bytes between the members of a request that is skipped.
func (s *scanner) atLevelOne(b []byte) {
	if s.refused && s.depth == 1 {
		s.rest.keep(b)
	}
}

// quoteOrEscape returns the index of the next byte that matters in a string.
func quoteOrEscape(p []byte, i int) int {
	for i < len(p) && p[i] != '"' && p[i] != '\\' {
		i++
	}
	return i
}

// end reports what the end of the stream means for a value that has begun: a
// number ends with it, anything else is cut short.
func (s *scanner) end() event {
	if s.state == stateNumber && !s.done {
		return s.finish()
	}
	return eventMore
}

// keep accounts for b, the next bytes of the current value, and stores them
// unless the value is refused.
func (s *scanner) keep(b []byte, ev event) event {
	s.total += len(b)
	if ev == eventTooLarge || ev == eventTooDeep || ev == eventBatchTooLong {
		s.store(b)
		s.rest.begin(s.value, s.isObject)
	}
	if s.refused || ev == eventGarbage {
		s.wipe()
		return ev
	}
	s.store(b)
	return ev
}

// store appends b to the value. A buffer that is outgrown is wiped.
func (s *scanner) store(b []byte) {
	need := len(s.value) + len(b)
	if need > cap(s.value) {
		grown := make([]byte, len(s.value), min(max(2*need, 512), max(need, s.maxBytes)))
		copy(grown, s.value)
		clear(s.value)
		s.value = grown
	}
	s.value = append(s.value, b...)
}

func (s *scanner) reset() {
	s.value = s.value[:0]
	s.state, s.depth, s.elements, s.total = stateBetween, 0, 0, 0
	s.isArray, s.isObject, s.refused, s.done, s.word = false, false, false, false, ""
	s.rest = refusedValue{}
}

// finish ends the current value.
func (s *scanner) finish() event {
	s.done = true
	s.state = stateBetween
	if s.refused {
		s.rest.end()
		return eventSkipped
	}
	return eventValue
}

// refuse drops the current value; the rest of it will be skipped.
func (s *scanner) refuse(ev event) event {
	if s.refused {
		return eventMore
	}
	s.refused = true
	return ev
}

// room returns by how many bytes the value may grow before overflow decides.
func (s *scanner) room() int {
	if s.refused {
		return skipFactor*s.maxBytes - s.total
	}
	return s.maxBytes - s.total
}

// overflow says what it means that the value has used up its room; next is the
// byte that follows.
func (s *scanner) overflow(next byte) event {
	switch {
	case s.state == stateNumber && !isNumberByte(next):
		return s.finish()
	case s.refused:
		return eventEndless
	}
	return s.refuse(eventTooLarge)
}

func (s *scanner) step(c byte) event {
	switch s.state {
	case stateContainer:
		return s.inContainer(c)
	case stateString:
		return s.inString(c)
	case stateEscape:
		s.state = stateString
	case stateWord:
		return s.inWord(c)
	}
	return eventMore
}

func (s *scanner) begin(c byte) event {
	switch {
	case c == '{' || c == '[':
		s.state, s.depth, s.elements, s.isArray, s.isObject = stateContainer, 1, 1, c == '[', c == '{'
	case c == '"':
		s.state = stateString
	case c == '-' || c >= '0' && c <= '9':
		s.state = stateNumber
	case c == 't':
		s.state, s.word = stateWord, "rue"
	case c == 'f':
		s.state, s.word = stateWord, "alse"
	case c == 'n':
		s.state, s.word = stateWord, "ull"
	default:
		return eventGarbage
	}
	return eventMore
}

func (s *scanner) inContainer(c byte) event {
	switch c {
	case '"':
		s.state = stateString
	case '{', '[':
		if s.depth++; s.depth > s.maxDepth {
			return s.refuse(eventTooDeep)
		}
	case '}', ']':
		if s.depth--; s.depth == 0 {
			return s.finish()
		}
		if s.depth == 1 && s.refused {
			s.rest.restart(s.isObject)
		}
	case ',':
		if s.depth == 1 && s.isArray {
			if s.elements++; s.elements > s.maxBatch {
				return s.refuse(eventBatchTooLong)
			}
		}
	}
	return eventMore
}

func (s *scanner) inString(c byte) event {
	switch c {
	case '\\':
		s.state = stateEscape
	case '"':
		if s.depth == 0 {
			return s.finish()
		}
		s.state = stateContainer
	}
	return eventMore
}

func (s *scanner) inWord(c byte) event {
	if c != s.word[0] {
		return eventGarbage
	}
	if s.word = s.word[1:]; s.word == "" {
		return s.finish()
	}
	return eventMore
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}
