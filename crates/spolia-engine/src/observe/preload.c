/* Preloaded into an observed program: tells its observer which variables it asks for by name, whether it asks for the
 * time of day (these are no system calls, so nothing else sees them), and which files it opens to read and looks for. Knows no
 * observer.
 *
 * A word is said by opening a file relative to a descriptor that cannot be (TELL): the observer sees the call, and
 * the kernel refuses it. Where nobody observes, nothing happens. No libc is linked: whichever the program has is used.
 *
 *     "+"        loaded; the answer may be a descriptor of the board
 *     "=NAME"    the value of NAME was asked for
 *     "@"        the time of day was asked for
 *
 * The **board** is memory shared with the observer (`board.rs` has its layout). Each of our own calls that is noted there bears
 * the pass that stands at its head, in a register that the call does not use, and the kernel lets it by; any other call
 * of the same kind, whoever makes it, is stopped as if we were not there. Where the board is missing or full, ours are too.
 *
 * Where the filter is not there yet, it waits at OFFER, and is installed here: before anything of the program's own runs, but
 * after the loader has done its work. What the loader took is noted by us then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define TELL (-0x53504f4c)
#define PUBLIC __attribute__((visibility("default")))
#define NAME_MAX_BYTES 250
#define SAID_MAX 1024

extern char **environ __attribute__((weak));

/* Six arguments, of which the last is no longer in its register when this returns: nobody else's call may bear it. */
static long call6(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall\n\txorl %%r9d, %%r9d"
                     : "=a"(result), "+r"(r9)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "cc", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0\n\tmov x5, xzr"
                     : "+r"(x0), "+r"(x5)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
#else
#error "no way to call this kernel"
#endif
}

static long call4(long number, long a, long b, long c, long d)
{
    return call6(number, a, b, c, d, 0, 0);
}

static long tell(const char *word)
{
    return call4(SYS_openat, TELL, (long)word, 0, 0);
}

#define BOARD_MAGIC 0x3164726f616f7073ul
#define PATH_BYTES_MAX 4096

struct board {
    unsigned long magic;
    unsigned long pass;
    unsigned long used;
    unsigned long size;
};

enum kind { OPENED = 1, LOOKED = 2, NAMED = 3, END = 4, RESOLVED = 5 };
enum state { BEGUN = 1, FOUND = 2, MISSING = 3, REFUSED = 4 };

struct note {
    unsigned size; /* last of all: 0 until the rest stands there */
    unsigned char kind;
    unsigned char state;
    unsigned short folder;
    unsigned short path;
    unsigned short zero;
    unsigned mode;
    unsigned long dev, ino, length;
    long mtime, mtime_fraction, ctime, ctime_fraction;
    char text[];
};

static struct board *board;

static size_t length_of(const char *text, size_t most)
{
    size_t length = 0;
    while (length < most && text[length])
        length++;
    return length;
}

static void copy(char *to, const char *from, size_t count)
{
    for (size_t at = 0; at < count; at++)
        to[at] = from[at];
}

/* NULL where it cannot be noted; then the call has to be made without the pass. */
static struct note *begin(enum kind kind, int folder, const char *path)
{
    char here[PATH_BYTES_MAX];
    size_t here_length = 0, path_length;
    unsigned long size, at;
    struct note *note;
    if (!board || !path || !*path)
        return NULL;
    path_length = length_of(path, PATH_BYTES_MAX);
    if (path_length == PATH_BYTES_MAX)
        return NULL;
    if (kind != NAMED && path[0] != '/') {
        long got = folder == AT_FDCWD ? call4(SYS_getcwd, (long)here, sizeof here, 0, 0) : 0;
        if (got < 2 || here[0] != '/')
            return NULL;
        here_length = got - 1;
    }
    size = (sizeof *note + here_length + path_length + 7) & ~7ul;
    at = __atomic_fetch_add(&board->used, size, __ATOMIC_RELAXED);
    if (at + size > board->size) {
        /* Whoever reads finds the end here and not a note that was never finished. */
        if (at + 8 <= board->size) {
            note = (struct note *)((char *)board + at);
            note->kind = END;
            __atomic_store_n(&note->size, 8, __ATOMIC_RELEASE);
        }
        return NULL;
    }
    note = (struct note *)((char *)board + at);
    note->kind = kind;
    note->state = BEGUN;
    note->folder = here_length;
    note->path = path_length;
    copy(note->text, here, here_length);
    copy(note->text + here_length, path, path_length);
    __atomic_store_n(&note->size, size, __ATOMIC_RELEASE);
    return note;
}

static void finish(struct note *note, long result, const struct stat *found)
{
    if (result >= 0) {
        note->mode = found->st_mode;
        note->dev = found->st_dev;
        note->ino = found->st_ino;
        note->length = found->st_size;
        note->mtime = found->st_mtim.tv_sec;
        note->mtime_fraction = found->st_mtim.tv_nsec;
        note->ctime = found->st_ctim.tv_sec;
        note->ctime_fraction = found->st_ctim.tv_nsec;
    }
    __atomic_store_n(&note->state,
                     result >= 0                                ? FOUND
                     : result == -ENOENT || result == -ENOTDIR ? MISSING
                                                                : REFUSED,
                     __ATOMIC_RELEASE);
}

/* Names said before, by their hash: saying one twice costs time only, so two threads may race here. */
static unsigned said[SAID_MAX];

static void tell_name(const char *name)
{
    char word[NAME_MAX_BYTES + 2];
    unsigned hash = 2166136261u;
    size_t length = 0;
    word[0] = '=';
    for (; name[length] && length < NAME_MAX_BYTES; length++) {
        word[length + 1] = name[length];
        hash = (hash ^ (unsigned char)name[length]) * 16777619u;
    }
    word[length + 1] = 0;
    hash |= 1;
    if (said[hash % SAID_MAX] == hash)
        return;
    said[hash % SAID_MAX] = hash;
    struct note *note = begin(NAMED, AT_FDCWD, word + 1);
    if (note)
        __atomic_store_n(&note->state, FOUND, __ATOMIC_RELEASE);
    else
        tell(word);
}

static char *value_of(const char *name)
{
    char **variable = &environ ? environ : NULL;
    if (!name || !*name)
        return NULL;
    tell_name(name);
    for (; variable && *variable; variable++) {
        size_t at = 0;
        while (name[at] && (*variable)[at] == name[at])
            at++;
        if (!name[at] && (*variable)[at] == '=')
            return *variable + at + 1;
    }
    return NULL;
}

PUBLIC char *getenv(const char *name) { return value_of(name); }

/* An observed program never has rights that its caller lacks, so it may be told everything. */
PUBLIC char *secure_getenv(const char *name) { return value_of(name); }

PUBLIC char *__secure_getenv(const char *name) { return value_of(name); }

struct moment {
    long seconds;
    long fraction;
};

static void tell_time(void)
{
    static int told;
    if (!told) {
        told = 1;
        tell("@");
    }
}

/* The real ones read the clock without the kernel, which is what this gives up. */
PUBLIC int gettimeofday(struct moment *now, void *zone)
{
    (void)zone;
    tell_time();
    return (int)call4(SYS_gettimeofday, (long)now, 0, 0, 0);
}

PUBLIC long time(long *now)
{
    struct moment moment = {0, 0};
    tell_time();
    call4(SYS_gettimeofday, (long)&moment, 0, 0, 0);
    if (now)
        *now = moment.seconds;
    return moment.seconds;
}

PUBLIC int clock_gettime(int clock, struct moment *now)
{
    long result;
    if (clock == 0 || clock == 5)
        tell_time();
    result = call4(SYS_clock_gettime, clock, (long)now, 0, 0);
    return result < 0 ? -1 : 0;
}

#ifdef FILES
extern int *__errno_location(void) __attribute__((weak));

static int answer(long result)
{
    if (result >= 0)
        return (int)result;
    if (&__errno_location)
        *__errno_location() = (int)-result;
    return -1;
}

static int open_at(int folder, const char *path, int flags, int mode)
{
    int changes = O_ACCMODE | O_CREAT | O_TRUNC | O_PATH | (O_TMPFILE & ~O_DIRECTORY);
    struct note *note = flags & changes ? NULL : begin(OPENED, folder, path);
    struct stat found;
    long opened;
    if (!note)
        return answer(call4(SYS_openat, folder, (long)path, flags, mode));
    opened = call6(SYS_openat, folder, (long)path, flags, mode, 0, board->pass);
    finish(note, opened < 0 ? opened : call4(SYS_fstat, opened, (long)&found, 0, 0) < 0 ? -EACCES : opened, &found);
    return answer(opened);
}

/* `path` is among the arguments that follow `at`. */
#define OPENS(name, at, ...)                                                                                           \
    PUBLIC int name(__VA_ARGS__, int flags, ...)                                                                       \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        int mode = 0;                                                                                                  \
        va_start(more, flags);                                                                                         \
        if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))                                                            \
            mode = va_arg(more, int);                                                                                  \
        va_end(more);                                                                                                  \
        return open_at(at, path, flags, mode);                                                                         \
    }
OPENS(open, AT_FDCWD, const char *path)
OPENS(open64, AT_FDCWD, const char *path)
OPENS(openat, folder, int folder, const char *path)
OPENS(openat64, folder, int folder, const char *path)

/* What is there now, links followed, whatever the call itself made of it. */
static void finish_look(struct note *note, int folder, const char *path)
{
    struct stat found;
    long result = call6(SYS_newfstatat, folder, (long)path, (long)&found, 0, 0, board->pass);
    finish(note, result, &found);
}

static int look(const char *path, struct stat *found, int flags)
{
    struct note *note = begin(LOOKED, AT_FDCWD, path);
    long result;
    if (!note)
        return answer(call4(SYS_newfstatat, AT_FDCWD, (long)path, (long)found, flags));
    result = call6(SYS_newfstatat, AT_FDCWD, (long)path, (long)found, flags, 0, board->pass);
    if (result >= 0 && S_ISLNK(found->st_mode))
        finish_look(note, AT_FDCWD, path);
    else
        finish(note, result, found);
    return answer(result);
}

PUBLIC int stat(const char *restrict path, struct stat *restrict found) { return look(path, found, 0); }
PUBLIC int lstat(const char *restrict path, struct stat *restrict found)
{
    return look(path, found, AT_SYMLINK_NOFOLLOW);
}
/* On 64 bits these are the same; the last four are what programs call that were built long ago. */
struct stat64;
PUBLIC int stat64(const char *restrict path, struct stat64 *restrict found)
{
    return look(path, (struct stat *)found, 0);
}
PUBLIC int lstat64(const char *restrict path, struct stat64 *restrict found)
{
    return look(path, (struct stat *)found, AT_SYMLINK_NOFOLLOW);
}
PUBLIC int __xstat(int version, const char *path, struct stat *found)
{
    (void)version;
    return look(path, found, 0);
}
PUBLIC int __xstat64(int version, const char *path, struct stat *found)
{
    (void)version;
    return look(path, found, 0);
}
PUBLIC int __lxstat(int version, const char *path, struct stat *found)
{
    (void)version;
    return look(path, found, AT_SYMLINK_NOFOLLOW);
}
PUBLIC int __lxstat64(int version, const char *path, struct stat *found)
{
    (void)version;
    return look(path, found, AT_SYMLINK_NOFOLLOW);
}

struct statx;
PUBLIC int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict found)
{
    struct note *note = flags & AT_EMPTY_PATH ? NULL : begin(LOOKED, folder, path);
    long result = call6(SYS_statx, folder, (long)path, flags, mask, (long)found, note ? board->pass : 0);
    if (note)
        finish_look(note, folder, path);
    return answer(result);
}

/* What a path is without its links is no call of its own: libc asks `readlink` again and again, by itself. */
extern char *__realpath_chk(const char *path, char *resolved, size_t size) __attribute__((weak));
extern void *dlsym(void *handle, const char *name) __attribute__((weak));

static char *resolve(const char *path, char *resolved)
{
    static const struct stat nothing;
    struct note *note = begin(RESOLVED, AT_FDCWD, path);
    char *(*next)(const char *, char *) = NULL;
    char *found = NULL;
    if (&__realpath_chk)
        found = __realpath_chk(path, resolved, ~(size_t)0);
    else if (&dlsym && (next = (char *(*)(const char *, char *))dlsym((void *)-1l, "realpath")))
        found = next(path, resolved);
    else
        answer(-ENOSYS);
    if (note)
        finish(note, found ? 0 : &__errno_location ? -*__errno_location() : -EACCES, &nothing);
    return found;
}

PUBLIC char *realpath(const char *restrict path, char *restrict resolved) { return resolve(path, resolved); }
PUBLIC char *canonicalize_file_name(const char *path) { return resolve(path, NULL); }

PUBLIC int access(const char *path, int mode)
{
    struct note *note = begin(LOOKED, AT_FDCWD, path);
    long result = call6(SYS_faccessat, AT_FDCWD, (long)path, mode, 0, 0, note ? board->pass : 0);
    if (note)
        finish_look(note, AT_FDCWD, path);
    return answer(result);
}
#endif

#ifdef FILES
/* The descriptor and the message are those of `observe/late.rs`. */
#define OFFER 1009
#define OFFER_MAGIC 0x3172666f616f7073ul
#define OFFER_BYTES_MAX 4096
#define SECCOMP_INSTALL 1
#define WANTED ((1ul << 3) | (1ul << 2)) /* a listener; no slower for it */
#define UNDISTURBED (1ul << 5)           /* since Linux 5.19 */

struct offer {
    unsigned long magic;
    long from;
    unsigned long program[(OFFER_BYTES_MAX - 16) / 8];
};

struct program {
    unsigned short count;
    unsigned long *instructions;
};

extern int dl_iterate_phdr(int (*each)(struct dl_phdr_info *, size_t, void *), void *) __attribute__((weak));

static long install(struct program *program)
{
    long listener = call4(SYS_seccomp, SECCOMP_INSTALL, WANTED | UNDISTURBED, (long)program, 0);
    if (listener == -EINVAL)
        listener = call4(SYS_seccomp, SECCOMP_INSTALL, WANTED, (long)program, 0);
    return listener;
}

/* 0 or the number of an error, and with 0 the listener. */
static void hand_over(long listener)
{
    int error = listener < 0 ? (int)-listener : 0;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {&error, sizeof error};
    struct msghdr message;
    message.msg_name = NULL;
    message.msg_namelen = 0;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = error ? NULL : control.space;
    message.msg_controllen = error ? 0 : sizeof control.space;
    message.msg_flags = 0;
    control.head.cmsg_len = CMSG_LEN(sizeof(int));
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    *(int *)CMSG_DATA(&control.head) = (int)listener;
    /* Behind a filter that nobody answers nothing goes on; whoever started this then starts it without one. */
    if (call4(SYS_sendmsg, OFFER, (long)&message, MSG_NOSIGNAL, 0) < 0 && !error)
        call4(SYS_kill, call4(SYS_getpid, 0, 0, 0, 0), SIGKILL, 0, 0);
}

/* Whether the filter was offered to this very process, and stands now. */
static int take_offer(void)
{
    struct offer offer;
    struct program program;
    long listener = -ENOSYS;
    long got = call6(SYS_recvfrom, OFFER, (long)&offer, sizeof offer, MSG_PEEK | MSG_DONTWAIT, 0, 0);
    if (got < 24 || offer.magic != OFFER_MAGIC || offer.from != call4(SYS_getppid, 0, 0, 0, 0))
        return 0;
    /* What is left unread when a socket is closed takes what was sent with it. */
    call6(SYS_recvfrom, OFFER, (long)&offer, sizeof offer, MSG_DONTWAIT, 0, 0);
    program.count = (got - 16) / 8;
    program.instructions = offer.program;
    if (&dl_iterate_phdr)
        listener = install(&program);
    /* Only who may do everything anyway may do it without a promise. */
    if (listener == -EACCES && call6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0) == 0)
        listener = install(&program);
    hand_over(listener);
    call4(SYS_close, OFFER, 0, 0, 0);
    if (listener >= 0)
        call4(SYS_close, listener, 0, 0, 0);
    return listener >= 0;
}

/* What is loaded was opened a moment ago by the loader, whom nobody saw. */
static int note_library(struct dl_phdr_info *info, size_t size, void *data)
{
    const char *name = info->dlpi_name;
    size_t length = name ? length_of(name, PATH_BYTES_MAX) : 0, at = 0;
    struct note *note;
    (void)size;
    (void)data;
    while (at < length && name[at] != '/')
        at++;
    /* The program itself has no name here, and what the kernel brings has no path. */
    if (at == length)
        return 0;
    note = begin(OPENED, AT_FDCWD, name);
    if (note) {
        finish_look(note, AT_FDCWD, name);
    } else {
        long file = call4(SYS_openat, AT_FDCWD, (long)name, O_RDONLY | O_CLOEXEC, 0);
        if (file >= 0)
            call4(SYS_close, file, 0, 0, 0);
    }
    return 0;
}
#else
static int take_offer(void) { return 0; }
#endif

static void take_board(long file)
{
    struct board head;
    if (call4(SYS_pread64, file, (long)&head, sizeof head, 0) == sizeof head && head.magic == BOARD_MAGIC) {
        long at = call6(SYS_mmap, 0, head.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (at > 0 || at < -4095)
            board = (struct board *)at;
    }
    call4(SYS_close, file, 0, 0, 0);
}

/* Linked to run before all others (`initfirst`): what they ask for is noted as well. */
__attribute__((constructor)) static void loaded(void)
{
    int late = take_offer();
    long file = tell("+");
    if (file >= 0)
        take_board(file);
#ifdef FILES
    if (late)
        dl_iterate_phdr(note_library, NULL);
#endif
    (void)late;
}
