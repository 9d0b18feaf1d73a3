#include "fault/failing.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_TEXT = 96, FRAMES_MAX = 16 };

static struct failing_plan *plan; /* NULL: everything passes */
static __thread bool inside __attribute__((tls_model("initial-exec")));

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *ptr, size_t size);

/* ---- what happened, for the test ---- */

static void note_frames(size_t offset, size_t end, const char *head) {
  void *frames[FRAMES_MAX];
  char *text = (char *)plan + offset, *last = (char *)plan + end - 1;
  int count = backtrace(frames, FRAMES_MAX);
  text += snprintf(text, FRAME_TEXT, "%s", head);
  for (int i = 1; i < count && last - text > FRAME_TEXT; i++) {
    Dl_info info;
    if (!dladdr(frames[i], &info) || !info.dli_fname) continue;
    const char *slash = strrchr(info.dli_fname, '/');
    text += snprintf(text, FRAME_TEXT, " %.48s+0x%zx", slash ? slash + 1 : info.dli_fname,
        (size_t)((char *)frames[i] - (char *)info.dli_fbase));
  }
  *text = '\0';
}

static void on_fatal_signal(int signum) {
  char head[16];
  inside = true;
  snprintf(head, sizeof(head), "%d", signum);
  note_frames(FAILING_CRASHED_AT, FAILING_PAGE, head);
  raise(signum); /* the handler is gone by now */
}

void failing_use(struct failing_plan *page) {
  plan = page;
}

__attribute__((constructor)) static void failing_open(void) {
  const char *path = getenv("PF_FAILING");
  int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *page = mmap(NULL, FAILING_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED) return;
  void *frames[1];
  (void)backtrace(frames, 1); /* it loads its library the first time */
  struct sigaction action = {
      .sa_handler = on_fatal_signal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  sigaction(SIGABRT, &action, NULL);
  failing_use(page);
}

/* True once: this call is the one. *ret_action is an errno, or 0 for a short transfer. */
static bool fails(enum failing_kind kind, int *ret_action) {
  if (!plan || inside) return false;
  uint64_t n = __atomic_add_fetch(&plan->count[kind], 1, __ATOMIC_RELAXED);
  if (n != __atomic_load_n(&plan->at, __ATOMIC_ACQUIRE) || plan->kind != kind) return false;
  inside = true;
  *ret_action = (int)plan->action;
  note_frames(FAILING_FIRED_AT, FAILING_CRASHED_AT, "");
  __atomic_store_n(&plan->fired, 1, __ATOMIC_RELEASE);
  inside = false;
  return true;
}

/* ---- memory ---- */

static bool no_memory(void) {
  int action;
  if (!fails(FAILING_ALLOC, &action)) return false;
  errno = ENOMEM;
  return true;
}

void *malloc(size_t size) {
  return no_memory() ? NULL : __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  return no_memory() ? NULL : __libc_calloc(count, size);
}
void *realloc(void *ptr, size_t size) {
  return no_memory() ? NULL : __libc_realloc(ptr, size);
}

/* ---- calls that fail or do not ---- */

/* The test disarms by writing to the page, which wakes nobody. */
static void hold(void) {
  const struct timespec pause = {.tv_nsec = 1000000};
  while (__atomic_load_n(&plan->at, __ATOMIC_ACQUIRE) != 0)
    nanosleep(&pause, NULL);
}

static bool refused(enum failing_kind kind) {
  int action;
  if (!fails(kind, &action)) return false;
  if (action == FAILING_HOLD) {
    hold();
    return false;
  }
  errno = action;
  return true;
}

int open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
  va_end(args);
  return refused(FAILING_OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int fsync(int fd) {
  return refused(FAILING_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
  return refused(FAILING_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}
int ftruncate(int fd, off_t length) {
  return refused(FAILING_TRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}
int ftruncate64(int fd, off64_t length) {
  return ftruncate(fd, length);
}
int socket(int domain, int type, int protocol) {
  return refused(FAILING_SOCKET) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}
int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags) {
  return refused(FAILING_ACCEPT) ? -1 : (int)syscall(SYS_accept4, fd, addr, len, flags);
}
int accept(int fd, struct sockaddr *addr, socklen_t *len) {
  return accept4(fd, addr, len, 0);
}

/* ---- transfers: they may also be short ---- */

/* False: the call is to end with -1. A short transfer leaves one byte in *len. */
static bool transfer(int fd, enum failing_kind file, enum failing_kind stream, size_t *len) {
  struct stat st;
  if (!plan || inside || *len == 0 || fstat(fd, &st) != 0) return true;
  enum failing_kind kind = S_ISREG(st.st_mode) ? file : S_ISSOCK(st.st_mode) ? stream : FAILING_MAX;
  int action;
  if (kind == FAILING_MAX || !fails(kind, &action)) return true;
  if (action == 0) {
    *len = 1;
    return true;
  }
  errno = action;
  return false;
}
static bool reads(int fd, size_t *len) {
  return transfer(fd, FAILING_FILE_READ, FAILING_SOCKET_READ, len);
}
static bool writes(int fd, size_t *len) {
  return transfer(fd, FAILING_FILE_WRITE, FAILING_SOCKET_WRITE, len);
}

ssize_t read(int fd, void *data, size_t len) {
  return reads(fd, &len) ? syscall(SYS_read, fd, data, len) : -1;
}
ssize_t pread(int fd, void *data, size_t len, off_t offset) {
  return reads(fd, &len) ? syscall(SYS_pread64, fd, data, len, offset) : -1;
}
ssize_t pread64(int fd, void *data, size_t len, off64_t offset) {
  return pread(fd, data, len, offset);
}
ssize_t recvfrom(
    int fd, void *data, size_t len, int flags, struct sockaddr *addr, socklen_t *addr_len) {
  return reads(fd, &len) ? syscall(SYS_recvfrom, fd, data, len, flags, addr, addr_len) : -1;
}
ssize_t recv(int fd, void *data, size_t len, int flags) {
  return recvfrom(fd, data, len, flags, NULL, NULL);
}
ssize_t write(int fd, const void *data, size_t len) {
  return writes(fd, &len) ? syscall(SYS_write, fd, data, len) : -1;
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset) {
  return writes(fd, &len) ? syscall(SYS_pwrite64, fd, data, len, offset) : -1;
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset) {
  return pwrite(fd, data, len, offset);
}
ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *addr,
    socklen_t addr_len) {
  return writes(fd, &len) ? syscall(SYS_sendto, fd, data, len, flags, addr, addr_len) : -1;
}
ssize_t send(int fd, const void *data, size_t len, int flags) {
  return sendto(fd, data, len, flags, NULL, 0);
}

/* The vectors may be cut to their first byte. */
static size_t vector_bytes(const struct iovec *iov, int count) {
  size_t sum = 0;
  for (int i = 0; i < count; i++)
    sum += iov[i].iov_len;
  return sum;
}
static void vector_cut(const struct iovec *iov, int count, size_t len, struct iovec *ret_cut) {
  for (int i = 0; i < count; i++)
    if (iov[i].iov_len > 0) {
      *ret_cut = (struct iovec){iov[i].iov_base, len};
      return;
    }
}

ssize_t writev(int fd, const struct iovec *iov, int count) {
  size_t all = vector_bytes(iov, count), len = all;
  struct iovec cut = {0};
  if (!writes(fd, &len)) return -1;
  if (len == all) return syscall(SYS_writev, fd, iov, count);
  vector_cut(iov, count, len, &cut);
  return syscall(SYS_writev, fd, &cut, 1);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  size_t all = vector_bytes(message->msg_iov, (int)message->msg_iovlen), len = all;
  struct iovec cut = {0};
  struct msghdr shorter = *message;
  if (!writes(fd, &len)) return -1;
  if (len == all) return syscall(SYS_sendmsg, fd, message, flags);
  vector_cut(message->msg_iov, (int)message->msg_iovlen, len, &cut);
  shorter.msg_iov = &cut;
  shorter.msg_iovlen = 1;
  return syscall(SYS_sendmsg, fd, &shorter, flags);
}
