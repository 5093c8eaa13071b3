/* Preloaded into an observed program: tells its observer which variables it asks for by name and whether it
 * asks for the time of day. These are no system calls (the clock is read without the kernel), so nothing else sees
 * them. Knows no observer.
 *
 * A word is said by opening a file relative to a descriptor that cannot be (TELL): the observer sees the call, and
 * the kernel refuses it. Where nobody observes, nothing happens. No libc is linked: whichever the program has is used.
 *
 *     "+"        loaded
 *     "=NAME"    the value of NAME was asked for
 *     "@"        the time of day was asked for
 */
#include <stddef.h>
#include <sys/syscall.h>

#define TELL (-0x53504f4c)
#define PUBLIC __attribute__((visibility("default")))
#define NAME_MAX_BYTES 250
#define SAID_MAX 1024

extern char **environ __attribute__((weak));

static long call4(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
#else
#error "no way to call this kernel"
#endif
}

static void tell(const char *word)
{
    call4(SYS_openat, TELL, (long)word, 0, 0);
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
__attribute__((constructor)) static void loaded(void)
{
    tell("+");
}
