package demo

import "syscall"

// endWithParent asks the kernel to kill the child when the demo ends, however it ends.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
