package argon2

// segments is SL of section 3.4: each pass synchronises the lanes four times.
const segments = 4

// matrix is the working memory as section 3.2 sees it: a row of blocks for each
// lane. Besides the blocks it has the compression's state, so that all that is secret
// is in one place.
type matrix struct {
	blocks  []block
	state   *block
	passes  int
	lanes   int
	columns int // q
	segment int // columns of a segment
	cost    cost
}

// blocks is m' of section 3.2, step 2, and one for the compression's state.
func (c cost) blocks() int { return int(c.lanes)*c.columns() + 1 }

func (c cost) columns() int { return int(c.memory/(segments*c.lanes)) * segments }

func newMatrix(c cost, memory []block) *matrix {
	last := len(memory) - 1
	return &matrix{
		blocks: memory[:last], state: &memory[last], passes: int(c.time), lanes: int(c.lanes),
		columns: c.columns(), segment: c.columns() / segments, cost: c,
	}
}

func (m *matrix) at(lane, column int) *block { return &m.blocks[lane*m.columns+column] }

// position is where a segment is: r, sl and l of section 3.4.
type position struct {
	pass, slice, lane int
}

// independent says whether the segment's references do not depend on data, as the
// first half of the first pass of Argon2id (section 3.4.1.3). What a PIN could tell
// by the memory that is touched is told in the other halves only.
func (p position) independent() bool { return p.pass == 0 && p.slice < segments/2 }

// fill is section 3.2, steps 5 and 6.
func (m *matrix) fill() {
	for pass := range m.passes {
		for slice := range segments {
			for lane := range m.lanes {
				m.fillSegment(position{pass, slice, lane})
			}
		}
	}
}

func (m *matrix) fillSegment(p position) {
	var numbers addresses
	if p.independent() {
		numbers.begin(m, p)
	}
	first := 0
	if p.pass == 0 && p.slice == 0 {
		first = 2 // these blocks came of H_0
	}
	for i := first; i < m.segment; i++ {
		column := p.slice*m.segment + i
		previous := m.at(p.lane, (column+m.columns-1)%m.columns)
		j := previous[0][0][0]
		if p.independent() {
			j = numbers.get(m.state, i)
		}
		compress(m.at(p.lane, column), previous, m.reference(p, i, j), m.state, p.pass > 0)
	}
}

// reference is the block that section 3.4.2 maps J_1 and J_2, the halves of j, to.
// It is for the i-th block of a segment.
func (m *matrix) reference(p position, i int, j uint64) *block {
	lane := int(uint32(j>>32) % m.cost.lanes)
	start, size := (p.slice+1)*m.segment, (segments-1)*m.segment
	if p.pass == 0 {
		start, size = 0, p.slice*m.segment
		if p.slice == 0 {
			lane = p.lane // nothing else is there yet
		}
	}
	if lane == p.lane {
		size += i - 1 // this segment too, but for the previous block
	} else if i == 0 {
		size--
	}
	x := uint64(uint32(j))
	x = x * x >> 32
	z := size - 1 - int(uint64(size)*x>>32)
	return m.at(lane, (start+z)%m.columns)
}

// addresses are the numbers j of a data-independent segment, 128 to a block
// (section 3.4.1.2). They depend on the cost only and are no secret.
type addresses struct {
	input, block block
}

func (a *addresses) begin(m *matrix, p position) {
	for n, value := range []uint64{
		uint64(p.pass), uint64(p.lane), uint64(p.slice), uint64(len(m.blocks)), uint64(m.passes), typeID,
	} {
		*a.input.word(n) = value
	}
}

// get is the i-th number. Callers ask in ascending order; state is for compress.
func (a *addresses) get(state *block, i int) uint64 {
	const each = blockSize / 8
	if counter := a.input.word(6); *counter != uint64(i/each)+1 {
		*counter = uint64(i/each) + 1
		var zero, once block
		compress(&once, &zero, &a.input, state, false)
		compress(&a.block, &zero, &once, state, false)
	}
	return *a.block.word(i % each)
}
