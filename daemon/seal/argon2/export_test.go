package argon2

// Block is a block of the working memory.
type Block = block

// Derive computes a tag with all inputs of RFC 9106, in memory of Blocks blocks.
func Derive(dst *[TagSize]byte, pin, salt, secret, data []byte, time, memory, lanes uint32, blocks []Block) {
	derive(dst, inputs{pin, salt, secret, data}, cost{time, memory, lanes}, blocks)
}

// Blocks is how many blocks a computation takes.
func Blocks(time, memory, lanes uint32) int { return cost{time, memory, lanes}.blocks() }
