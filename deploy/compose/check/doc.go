// Package check holds the tests of the compose stack that need no container engine: the stack is read by the library
// that docker compose reads it with, and its parts must fit together. It is a module of its own so that the library
// stays out of the product.
package check
