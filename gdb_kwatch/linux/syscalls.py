"""System calls by name: what a thread that has just made one asked for, and what it got.

The numbers are those of Linux's asm/unistd_64.h and asm/unistd_32.h.  The arguments of the calls
that move data are named as in their manual pages; those of others are shown as they are, in hex.
"""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import Any, NamedTuple

from .registers import UserRegisters

# A number, then the names from there on.
_X86_64 = """
0 read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction
rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield
mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm
setitimer getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind
listen getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit
wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync
fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink
symlink readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo
times ptrace getuid syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid
setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid
setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend
sigaltstack utime mknod uselib personality ustat statfs fstatfs sysfs getpriority setpriority
sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_get_priority_max
sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall vhangup
modify_ldt pivot_root _sysctl prctl arch_prctl adjtimex setrlimit chroot sync acct settimeofday
mount umount2 swapon swapoff reboot sethostname setdomainname iopl ioperm create_module
init_module delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg
afs_syscall tuxcall security gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr
fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr tkill time futex
sched_setaffinity sched_getaffinity set_thread_area io_setup io_destroy io_getevents io_submit
io_cancel get_thread_area lookup_dcookie epoll_create epoll_ctl_old epoll_wait_old
remap_file_pages getdents64 set_tid_address restart_syscall semtimedop fadvise64 timer_create
timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime
clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes vserver mbind
set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set ioprio_get inotify_init
inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat futimesat
newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll
unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice move_pages utimensat
epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime accept4
signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo
perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at
open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev
kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create
kexec_file_load bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2
pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq 424 pidfd_send_signal io_uring_setup
io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open
clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret
process_mrelease futex_waitv set_mempolicy_home_node
"""

_I386 = """
0 restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time
mknod chmod lchown break oldstat lseek getpid mount umount setuid getuid stime ptrace alarm
oldfstat pause utime stty gtty access nice ftime sync kill rename mkdir rmdir dup pipe times
prof brk setgid getgid signal geteuid getegid acct umount2 lock ioctl fcntl mpx setpgid ulimit
oldolduname umask chroot ustat dup2 getppid getpgrp setsid sigaction sgetmask ssetmask setreuid
setregid sigsuspend sigpending sethostname setrlimit getrlimit getrusage gettimeofday
settimeofday getgroups setgroups select symlink oldlstat readlink uselib swapon reboot readdir
mmap munmap truncate ftruncate fchmod fchown getpriority setpriority profil statfs fstatfs
ioperm socketcall syslog setitimer getitimer stat lstat fstat olduname iopl vhangup idle vm86old
wait4 swapoff sysinfo ipc fsync sigreturn clone setdomainname uname modify_ldt adjtimex mprotect
sigprocmask create_module init_module delete_module get_kernel_syms quotactl getpgid fchdir
bdflush sysfs personality afs_syscall setfsuid setfsgid _llseek getdents _newselect flock msync
readv writev getsid fdatasync _sysctl mlock munlock mlockall munlockall sched_setparam
sched_getparam sched_setscheduler sched_getscheduler sched_yield sched_get_priority_max
sched_get_priority_min sched_rr_get_interval nanosleep mremap setresuid getresuid vm86
query_module poll nfsservctl setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask
rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget
capset sigaltstack sendfile getpmsg putpmsg vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64
lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 setreuid32 setregid32 getgroups32
setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 setuid32 setgid32
setfsuid32 setfsgid32 pivot_root mincore madvise getdents64 fcntl64 224 gettid readahead
setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
removexattr lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity sched_getaffinity
set_thread_area get_thread_area io_setup io_destroy io_getevents io_submit io_cancel fadvise64
252 exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait remap_file_pages set_tid_address
timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_settime
clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes fadvise64_64 vserver
mbind get_mempolicy set_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
mq_getsetattr kexec_load waitid 286 add_key request_key keyctl ioprio_set ioprio_get
inotify_init inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat fchownat
futimesat fstatat64 unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6
ppoll unshare set_robust_list get_robust_list splice sync_file_range tee vmsplice move_pages
getcpu epoll_pwait utimensat signalfd timerfd_create eventfd fallocate timerfd_settime
timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev
rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64
name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv
process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom
memfd_create bpf execveat socket socketpair bind connect listen accept4 getsockopt setsockopt
getsockname getpeername sendto sendmsg recvfrom recvmsg shutdown userfaultfd membarrier mlock2
copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx arch_prctl
io_pgetevents rseq 393 semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl
clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64
timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64
pselect6_time64 ppoll_time64 416 io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64
mq_timedreceive_time64 semtimedop_time64 rt_sigtimedwait_time64 futex_time64
sched_rr_get_interval_time64 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register
open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open clone3 close_range openat2
pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr quotactl_fd
landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease
futex_waitv set_mempolicy_home_node
"""

# Arguments by name.  d: a descriptor, p: a pointer, n: a number, x: flags.
_ARGUMENTS = """
read d:fd p:buf n:count
write d:fd p:buf n:count
open p:pathname x:flags x:mode
openat d:dirfd p:pathname x:flags x:mode
close d:fd
stat p:pathname p:statbuf
fstat d:fd p:statbuf
lstat p:pathname p:statbuf
newfstatat d:dirfd p:pathname p:statbuf x:flags
statx d:dirfd p:pathname x:flags x:mask p:statxbuf
stat64 p:pathname p:statbuf
fstat64 d:fd p:statbuf
lstat64 p:pathname p:statbuf
fstatat64 d:dirfd p:pathname p:statbuf x:flags
statfs p:path p:buf
fstatfs d:fd p:buf
poll p:fds n:nfds n:timeout
ppoll p:fds n:nfds p:tmo_p p:sigmask n:sigsetsize
select n:nfds p:readfds p:writefds p:exceptfds p:timeout
pselect6 n:nfds p:readfds p:writefds p:exceptfds p:timeout p:sigmask
epoll_wait d:epfd p:events n:maxevents n:timeout
epoll_pwait d:epfd p:events n:maxevents n:timeout p:sigmask
epoll_ctl d:epfd n:op d:fd p:event
lseek d:fd n:offset n:whence
mmap p:addr n:length x:prot x:flags d:fd x:offset
munmap p:addr n:length
mprotect p:addr n:length x:prot
rt_sigaction n:signum p:act p:oldact n:sigsetsize
rt_sigprocmask n:how p:set p:oldset n:sigsetsize
rt_sigpending p:set n:sigsetsize
rt_sigtimedwait p:set p:info p:timeout n:sigsetsize
sigaltstack p:ss p:old_ss
ioctl d:fd x:request p:argp
fcntl d:fd n:cmd x:arg
fcntl64 d:fd n:cmd x:arg
pread64 d:fd p:buf n:count n:offset
pwrite64 d:fd p:buf n:count n:offset
readv d:fd p:iov n:iovcnt
writev d:fd p:iov n:iovcnt
preadv d:fd p:iov n:iovcnt n:offset
preadv2 d:fd p:iov n:iovcnt n:offset n:offset_h x:flags
pipe p:pipefd
pipe2 p:pipefd x:flags
socket n:domain n:type n:protocol
socketpair n:domain n:type n:protocol p:sv
accept d:sockfd p:addr p:addrlen
accept4 d:sockfd p:addr p:addrlen x:flags
sendto d:sockfd p:buf n:len x:flags p:dest_addr n:addrlen
recvfrom d:sockfd p:buf n:len x:flags p:src_addr p:addrlen
sendmsg d:sockfd p:msg x:flags
recvmsg d:sockfd p:msg x:flags
recvmmsg d:sockfd p:msgvec n:vlen x:flags p:timeout
sendmmsg d:sockfd p:msgvec n:vlen x:flags
getsockname d:sockfd p:addr p:addrlen
getpeername d:sockfd p:addr p:addrlen
getsockopt d:sockfd n:level n:optname p:optval p:optlen
socketcall n:call p:args
getdents d:fd p:dirp n:count
getdents64 d:fd p:dirp n:count
getcwd p:buf n:size
readlink p:pathname p:buf n:bufsiz
readlinkat d:dirfd p:pathname p:buf n:bufsiz
uname p:buf
sysinfo p:info
times p:buf
gettimeofday p:tv p:tz
time p:tloc
getrusage n:who p:usage
getrlimit n:resource p:rlim
prlimit64 n:pid n:resource p:new_limit p:old_limit
clock_gettime n:clockid p:tp
clock_gettime64 n:clockid p:tp
clock_getres n:clockid p:res
clock_nanosleep n:clockid x:flags p:request p:remain
nanosleep p:req p:rem
timer_gettime n:timerid p:curr_value
getitimer n:which p:curr_value
setitimer n:which p:new_value p:old_value
timerfd_gettime d:fd p:curr_value
timerfd_settime d:fd x:flags p:new_value p:old_value
getrandom p:buf n:buflen x:flags
getresuid p:ruid p:euid p:suid
getresgid p:rgid p:egid p:sgid
getgroups n:size p:list
sched_getaffinity n:pid n:cpusetsize p:mask
getcpu p:cpu p:node
wait4 n:pid p:wstatus x:options p:rusage
waitid n:idtype n:id p:infop x:options p:rusage
futex p:uaddr x:op n:val p:timeout p:uaddr2 x:val3
set_tid_address p:tidptr
set_robust_list p:head n:len
arch_prctl x:code p:addr
prctl n:option x:arg2 x:arg3 x:arg4 x:arg5
exit n:status
exit_group n:status
fork
vfork
clone x:flags p:stack p:parent_tid p:child_tid p:tls
clone3 p:cl_args n:size
execve p:pathname p:argv p:envp
process_vm_readv n:pid p:local_iov n:liovcnt p:remote_iov n:riovcnt x:flags
process_vm_writev n:pid p:local_iov n:liovcnt p:remote_iov n:riovcnt x:flags
io_uring_setup n:entries p:params
io_uring_enter d:fd n:to_submit n:min_complete x:flags p:argp n:argsz
io_getevents x:ctx_id n:min_nr n:nr p:events p:timeout
splice d:fd_in p:off_in d:fd_out p:off_out n:len x:flags
sendfile d:out_fd d:in_fd p:offset n:count
copy_file_range d:fd_in p:off_in d:fd_out p:off_out n:len x:flags
getxattr p:path p:name p:value n:size
fgetxattr d:fd p:name p:value n:size
mincore p:addr n:length p:vec
ptrace n:request n:pid p:addr p:data
shmat n:shmid p:shmaddr x:shmflg
msgrcv n:msqid p:msgp n:msgsz n:msgtyp x:msgflg
mq_timedreceive d:mqdes p:msg_ptr n:msg_len p:msg_prio p:abs_timeout
"""

AT_FDCWD = -100
_MOST = 6

# What the kernel keeps in the register of a call that a signal has interrupted, until it is made
# again (include/linux/errno.h).
RESTARTS = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    516: "ERESTART_RESTARTBLOCK",
}


class Argument(NamedTuple):
    """One argument; ``path`` is what a descriptor stands for, "" where that cannot be told."""

    name: str
    value: int
    text: str
    path: str = ""

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "value": self.value}
        return {**found, "path": self.path} if self.path else found


class SystemCall(NamedTuple):
    """A system call that has been made.  ``result`` is None where it is to be made again."""

    number: int
    name: str
    arguments: tuple[Argument, ...]
    result: int | None
    outcome: str
    abi: str = "x86-64"

    @property
    def text(self) -> str:
        """``read(fd=3</etc/passwd>, buf=0x7ffc5e5fd0a0, count=36) = 36``."""
        inside = ", ".join(
            f"{one.name}={one.text}" if one.name else one.text for one in self.arguments
        )
        return f"{self.name}({inside}) = {self.outcome}"

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "number": self.number,
            "abi": self.abi,
            "arguments": [one.json() for one in self.arguments],
            "result": self.result,
            "text": self.text,
        }


@cache
def _names(i386: bool) -> dict[int, str]:
    found: dict[int, str] = {}
    number = 0
    for word in (_I386 if i386 else _X86_64).split():
        if word.isdigit():
            number = int(word)
        else:
            found[number] = word
            number += 1
    return found


@cache
def _arguments() -> dict[str, tuple[tuple[str, str], ...]]:
    found = {}
    for line in _ARGUMENTS.strip().split("\n"):
        name, *rest = line.split()
        found[name] = tuple((word[0], word[2:]) for word in rest)
    return found


def name_of(number: int, i386: bool = False) -> str:
    """``read``; for a number that the table lacks ``syscall_999``."""
    return _names(i386).get(number, f"syscall_{number}")


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def descriptor_path(pid: int, fd: int) -> str:
    """What a descriptor of a process stands for: a path, ``pipe:[1234]``, ``socket:[5]``."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""


def decode(registers: UserRegisters, pid: int, i386: bool = False) -> SystemCall | None:
    """The system call that a thread of ``pid`` has just come back from; None where its registers
    tell of none (orig_rax)."""
    number = _signed(registers.orig_rax, 32)
    if number < 0:
        return None
    bits = 32 if i386 else 64
    name = name_of(number, i386)
    values = registers.arguments(i386)
    named = _arguments().get(name)
    kinds = named if named is not None else tuple(("x", "") for _ in range(_MOST))
    arguments = tuple(
        _argument(kind, word, value, bits, pid) for (kind, word), value in zip(kinds, values)
    )
    result = _signed(registers.rax, bits)
    abi = "i386" if i386 else "x86-64"
    if -4096 < result < 0:
        code = -result
        if code in RESTARTS:
            outcome = f"? {RESTARTS[code]} (interrupted by a signal; it is made again)"
            return SystemCall(number, name, arguments, None, outcome, abi)
        outcome = f"-1 {errno.errorcode.get(code, code)} ({os.strerror(code)})"
        return SystemCall(number, name, arguments, result, outcome, abi)
    outcome = hex(registers.rax) if name in ("mmap", "mmap2", "brk", "shmat") else str(result)
    return SystemCall(number, name, arguments, result, outcome, abi)


def _argument(kind: str, name: str, value: int, bits: int, pid: int) -> Argument:
    if kind == "d":
        fd = _signed(value, 32)
        if fd == AT_FDCWD:
            return Argument(name, fd, "AT_FDCWD")
        path = descriptor_path(pid, fd)
        return Argument(name, fd, f"{fd}<{path}>" if path else str(fd), path)
    if kind == "n":
        # An int in a 64-bit register: what its upper half holds is nobody's business.
        number = _signed(value, bits)
        if not -(1 << 31) <= number < 1 << 32:
            number = _signed(value, 64)
        elif number >= 0xFFFFFF00:
            number = _signed(value, 32)
        return Argument(name, number, str(number))
    if kind == "p":
        return Argument(name, value, hex(value) if value else "NULL")
    return Argument(name, value, hex(value) if value > 9 else str(value))
