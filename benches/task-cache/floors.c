// What cannot be done for less: the bare commands without any tool, and one look at every file. It caches nothing.
//
//   floors loop FIRST_PACKAGE…   runs `./mk packages/P/src packages/P/dist/out.bin` for each, one after the other
//   floors walk FOLDER           one `fstatat` for every entry below the folder, in one thread
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static long seen;

static int loop(char **packages) {
    for (; *packages; packages++) {
        char source[512], output[512];
        snprintf(source, sizeof source, "packages/%s/src", *packages);
        snprintf(output, sizeof output, "packages/%s/dist/out.bin", *packages);
        char *command[] = {"./mk", source, output, NULL};
        pid_t pid;
        int status, failed = posix_spawn(&pid, "./mk", NULL, NULL, command, environ);
        if (failed) return fprintf(stderr, "floors: `./mk`: %s\n", strerror(failed)), 1;
        if (waitpid(pid, &status, 0) < 0 || status) return fprintf(stderr, "floors: `./mk %s` failed\n", source), 1;
    }
    return 0;
}

static int walk(int folder, const char *name) {
    int here = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = here < 0 ? NULL : fdopendir(here);
    if (!list) return fprintf(stderr, "floors: `%s`: %s\n", name, strerror(errno)), 1;
    struct dirent *entry;
    while ((entry = readdir(list))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        struct stat status;
        if (fstatat(here, entry->d_name, &status, AT_SYMLINK_NOFOLLOW)) return perror("floors: fstatat"), 1;
        seen++;
        if (S_ISDIR(status.st_mode) && walk(here, entry->d_name)) return 1;
    }
    closedir(list);
    return 0;
}

int main(int argc, char **argv) {
    if (argc >= 3 && !strcmp(argv[1], "loop")) return loop(argv + 2);
    if (argc == 3 && !strcmp(argv[1], "walk")) {
        int failed = walk(AT_FDCWD, argv[2]);
        printf("%ld entries\n", seen);
        return failed;
    }
    fprintf(stderr, "usage: floors loop PACKAGE… | floors walk FOLDER\n");
    return 64;
}
