//go:build unix && !linux

package demo

import "syscall"

// endWithParent does nothing: only Linux ends a child with its parent. A demo that ends in order stops its children
// everywhere.
func endWithParent(*syscall.SysProcAttr) {}
