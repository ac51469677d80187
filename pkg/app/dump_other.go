//go:build !linux

package app

// KeepMemory does nothing here: only Linux lets a process say so.
func KeepMemory() error { return nil }
