/* The ledger: what was weighed, in an SQLite database. Knows nothing of codecs. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stddef.h>

struct sqlite3;

/* Opens or makes the ledger at `path`, or returns NULL after saying why. */
struct sqlite3 *ledger_open(const char *path);

/* Notes one weighing; a later one of the same file, codec and level replaces it. 0 when it went well. */
int ledger_note(struct sqlite3 *ledger, const char *file, size_t size, const char *codec, int level,
                size_t packed);

/* Prints all notes as a table, smallest first for each file. 0 when it went well. */
int ledger_print(struct sqlite3 *ledger);

#endif
