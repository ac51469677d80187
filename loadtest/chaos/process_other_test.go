//go:build !linux

package chaos

import "syscall"

// endWithUs: elsewhere than on Linux a child outlives a killed test.
func endWithUs() *syscall.SysProcAttr { return nil }
