package cell

import "bytes"

// Padding is ISO/IEC 7816-4: one 0x80, then zeros up to the next multiple of the block.
const padMark = 0x80

// appendPadding completes dst[start:] to the next multiple of block; block 0 adds nothing.
func appendPadding(dst []byte, start, block int) []byte {
	if block == 0 {
		return dst
	}
	n := block - (len(dst)-start)%block
	dst = append(dst, padMark)
	for range n - 1 {
		dst = append(dst, 0)
	}
	return dst
}

// unpad removes the padding and reports whether it was exactly what appendPadding writes.
func unpad(padded []byte, block int) ([]byte, bool) {
	if block == 0 {
		return padded, true
	}
	body := bytes.TrimRight(padded, "\x00")
	n := len(body) - 1
	if len(padded)%block != 0 || n < 0 || body[n] != padMark || len(padded)-n > block {
		return nil, false
	}
	return padded[:n], true
}
