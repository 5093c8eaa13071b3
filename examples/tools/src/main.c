/* weigh: how small each codec makes a file. Reads arguments and files; the rest is elsewhere. */
#include "codec.h"
#include "ledger.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { SIZE_MAX_MIB = 256 };

static const char usage[] = "usage: weigh [--db FILE] FILE...\n"
                            "       weigh --self-test | --version\n";

/* Reads all of `path`; NULL after saying why. The caller frees it. */
static unsigned char *read_file(const char *path, size_t *size)
{
    size_t room = 64 * 1024, limit = (size_t)SIZE_MAX_MIB * 1024 * 1024;
    unsigned char *data = malloc(room), *larger;
    FILE *file = fopen(path, "rb");

    *size = 0;
    while (file && data) {
        *size += fread(data + *size, 1, room - *size, file);
        if (*size < room || room > limit)
            break;
        larger = realloc(data, room *= 2);
        if (!larger)
            free(data);
        data = larger;
    }
    if (!file || !data || ferror(file) || *size > limit) {
        fprintf(stderr, "error: could not read `%s`: %s\n", path, *size > limit ? "it is too large" : strerror(errno));
        free(data);
        data = NULL;
    }
    if (file)
        fclose(file);
    return data;
}

static int weigh(sqlite3 *ledger, const char *name, const void *data, size_t size)
{
    for (const struct codec *codec = codecs; codec->name; codec++) {
        size_t packed = codec_weigh(codec, data, size);
        if (!packed) {
            fprintf(stderr, "error: %s-%d does not give `%s` back\n", codec->name, codec->level, name);
            return 1;
        }
        if (ledger_note(ledger, name, size, codec->name, codec->level, packed))
            return 1;
    }
    return 0;
}

/* Text that repeats, bytes that do not, and nothing at all. */
static int self_test(sqlite3 *ledger)
{
    static unsigned char text[100000], noise[100000];
    unsigned state = 1;

    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (unsigned char)"stone upon stone, "[i % 18];
        state = state * 1664525u + 1013904223u;
        noise[i] = (unsigned char)(state >> 24);
    }
    return weigh(ledger, "text", text, sizeof text) || weigh(ledger, "noise", noise, sizeof noise) ||
           weigh(ledger, "nothing", "", 0);
}

int main(int count, char **args)
{
    const char *path = ":memory:";
    int at = 1, status = 0;
    sqlite3 *ledger;

    if (count == 2 && !strcmp(args[1], "--version")) {
        printf("weigh 1 (zlib %s, zstd %s, sqlite %s, %d bits)\n", zlibVersion(), ZSTD_versionString(),
               sqlite3_libversion(), (int)sizeof(void *) * 8);
        return 0;
    }
    if (count > 3 && !strcmp(args[1], "--db")) {
        path = args[2];
        at = 3;
    }
    if (at == count || (args[at][0] == '-' && strcmp(args[at], "--self-test"))) {
        fputs(usage, stderr);
        return 2;
    }
    ledger = ledger_open(path);
    if (!ledger)
        return 1;
    if (!strcmp(args[at], "--self-test"))
        status = self_test(ledger);
    else
        for (; at < count && !status; at++) {
            size_t size;
            unsigned char *data = read_file(args[at], &size);
            status = data ? weigh(ledger, args[at], data, size) : 1;
            free(data);
        }
    if (!status)
        status = ledger_print(ledger);
    sqlite3_close(ledger);
    return status;
}
