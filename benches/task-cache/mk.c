// The command every tool runs: all files of a folder in, one file of 102,400 bytes out. It knows nothing of the tool that
// started it.
//
//   mk SOURCE_FOLDER OUTPUT_FILE
//
// The output is half compressible: 512 pseudo-random bytes (seeded by the inputs), then 512 times the letter `s`, a hundred
// times over. Its first 32 bytes are the time and process of this very run, so that whoever reads the output later can tell
// a file that was made again from one that was kept or restored, without believing what a tool prints.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT_BYTES = 102400, HALF = 512, STAMP_BYTES = 32 };

static int fail(const char *what) {
    dprintf(2, "mk: `%s`: %s\n", what, strerror(errno));
    return 1;
}

// FNV-1a of one file's bytes; 0 means it could not be read.
static uint64_t digest_of_file(int folder, const char *name) {
    static unsigned char buffer[1 << 16];
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    uint64_t digest = 14695981039346656037ull;
    ssize_t got;
    while ((got = read(file, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < got; i++) digest = (digest ^ buffer[i]) * 1099511628211ull;
    close(file);
    return got < 0 ? 0 : digest;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        dprintf(2, "usage: mk SOURCE_FOLDER OUTPUT_FILE\n");
        return 64;
    }
    DIR *folder = opendir(argv[1]);
    if (!folder) return fail(argv[1]);
    uint64_t state = 0;
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.') continue;
        uint64_t digest = digest_of_file(dirfd(folder), entry->d_name);
        if (!digest) return fail(entry->d_name);
        state ^= digest; // the order in which the folder lists its files does not matter
    }
    if (!state) return fail(argv[1]);

    static unsigned char output[OUTPUT_BYTES];
    for (int at = 0; at < OUTPUT_BYTES; at += 2 * HALF) {
        for (int i = 0; i < HALF; i += 8) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            memcpy(output + at + i, &state, 8);
        }
        memset(output + at + HALF, 's', HALF);
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char stamp[STAMP_BYTES + 1];
    snprintf(stamp, sizeof stamp, "%010lld.%09ld %011d", (long long)now.tv_sec, now.tv_nsec, (int)getpid());
    memcpy(output, stamp, STAMP_BYTES);

    char *slash = strrchr(argv[2], '/');
    if (slash) {
        *slash = 0;
        if (mkdir(argv[2], 0777) && errno != EEXIST) return fail(argv[2]);
        *slash = '/';
    }
    unlink(argv[2]); // never write into a file that a cache may share
    int file = open(argv[2], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return fail(argv[2]);
    for (int at = 0; at < OUTPUT_BYTES;) {
        ssize_t put = write(file, output + at, OUTPUT_BYTES - at);
        if (put < 0) return fail(argv[2]);
        at += put;
    }
    return close(file) ? fail(argv[2]) : 0;
}
