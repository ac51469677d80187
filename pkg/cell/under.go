package cell

import "context"

// several is a KEK that stands for more than one: what Unwrap would have to try, Under knows.
type several interface {
	KEK
	// Under is the one of them that has this URI; false: none has.
	Under(uri string) (KEK, bool)
}

// Under is the key-encryption key that unwraps what was wrapped under a URI, as the registry notes it: that one of several,
// so that no other is asked, and none is blamed for another's failure. Where none has that name it is all of them, each of
// which is tried: a file may have moved.
func Under(kek KEK, uri string) KEK {
	if all, ok := kek.(several); ok && uri != "" {
		if one, found := all.Under(uri); found {
			return one
		}
	}
	return kek
}

// LoadUnder is [Cache.Load] of a key that was wrapped under the KEK with this URI.
func (c *Cache) LoadUnder(ctx context.Context, uri string, s Scheme, wrapped, canary []byte) error {
	return c.load(ctx, &lease{of: s, kek: uri, wrapped: wrapped, canary: canary})
}
