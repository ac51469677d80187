package chaos

import "syscall"

// endWithUs asks the kernel to end a child when this program ends, however it ends.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
