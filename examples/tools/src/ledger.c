/* The ledger: what was weighed, in an SQLite database. Knows nothing of codecs. */
#include "ledger.h"

#include <sqlite3.h>
#include <stdio.h>

static int failed(sqlite3 *ledger, const char *what)
{
    fprintf(stderr, "error: could not %s: %s\n", what, sqlite3_errmsg(ledger));
    return 1;
}

sqlite3 *ledger_open(const char *path)
{
    static const char table[] = "CREATE TABLE IF NOT EXISTS weight("
                                "file TEXT, size INTEGER, codec TEXT, level INTEGER, packed INTEGER,"
                                "PRIMARY KEY(file, codec, level))";
    sqlite3 *ledger = NULL;

    if (sqlite3_open(path, &ledger) == SQLITE_OK &&
        sqlite3_exec(ledger, table, NULL, NULL, NULL) == SQLITE_OK)
        return ledger;
    failed(ledger, "open the ledger");
    sqlite3_close(ledger);
    return NULL;
}

int ledger_note(sqlite3 *ledger, const char *file, size_t size, const char *codec, int level, size_t packed)
{
    static const char insert[] = "INSERT OR REPLACE INTO weight VALUES(?, ?, ?, ?, ?)";
    sqlite3_stmt *statement = NULL;
    int result;

    if (sqlite3_prepare_v2(ledger, insert, -1, &statement, NULL) != SQLITE_OK)
        return failed(ledger, "prepare a note");
    sqlite3_bind_text(statement, 1, file, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)size);
    sqlite3_bind_text(statement, 3, codec, -1, SQLITE_STATIC);
    sqlite3_bind_int(statement, 4, level);
    sqlite3_bind_int64(statement, 5, (sqlite3_int64)packed);
    result = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? 0 : failed(ledger, "note a weight");
}

int ledger_print(sqlite3 *ledger)
{
    static const char select[] = "SELECT file, codec, level, size, packed FROM weight "
                                 "ORDER BY file, packed, codec, level";
    sqlite3_stmt *statement = NULL;
    int result;

    if (sqlite3_prepare_v2(ledger, select, -1, &statement, NULL) != SQLITE_OK)
        return failed(ledger, "read the ledger");
    printf("%-8s %10s %10s %7s  %s\n", "codec", "size", "packed", "ratio", "file");
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        sqlite3_int64 size = sqlite3_column_int64(statement, 3);
        sqlite3_int64 packed = sqlite3_column_int64(statement, 4);
        printf("%s-%-3d %10lld %10lld %6.1f%%  %s\n", (const char *)sqlite3_column_text(statement, 1),
               sqlite3_column_int(statement, 2), (long long)size, (long long)packed,
               size ? 100.0 * (double)packed / (double)size : 0.0,
               (const char *)sqlite3_column_text(statement, 0));
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE ? 0 : failed(ledger, "read the ledger");
}
