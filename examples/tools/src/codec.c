/* The codecs that weigh compares. Knows nothing of files and of the ledger. */
#include "codec.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static size_t zlib_bound(size_t size)
{
    return compressBound((uLong)size);
}

static size_t zlib_pack(int level, void *to, size_t room, const void *from, size_t size)
{
    uLongf written = (uLongf)room;
    return compress2(to, &written, from, (uLong)size, level) == Z_OK ? written : 0;
}

static size_t zlib_unpack(void *to, size_t room, const void *from, size_t size)
{
    uLongf written = (uLongf)room;
    return uncompress(to, &written, from, (uLong)size) == Z_OK ? written : 0;
}

static size_t zstd_pack(int level, void *to, size_t room, const void *from, size_t size)
{
    size_t written = ZSTD_compress(to, room, from, size, level);
    return ZSTD_isError(written) ? 0 : written;
}

static size_t zstd_unpack(void *to, size_t room, const void *from, size_t size)
{
    size_t written = ZSTD_decompress(to, room, from, size);
    return ZSTD_isError(written) ? 0 : written;
}

const struct codec codecs[] = {
    {"zlib", 1, zlib_bound, zlib_pack, zlib_unpack},
    {"zlib", 6, zlib_bound, zlib_pack, zlib_unpack},
    {"zlib", 9, zlib_bound, zlib_pack, zlib_unpack},
    {"zstd", 1, ZSTD_compressBound, zstd_pack, zstd_unpack},
    {"zstd", 3, ZSTD_compressBound, zstd_pack, zstd_unpack},
    {"zstd", 19, ZSTD_compressBound, zstd_pack, zstd_unpack},
    {NULL, 0, NULL, NULL, NULL},
};

size_t codec_weigh(const struct codec *codec, const void *data, size_t size)
{
    size_t room = codec->bound(size), packed = 0;
    /* One byte more than needed, so that nothing asks for a block of no size. */
    unsigned char *small = malloc(room + 1), *back = malloc(size + 1);

    if (small && back) {
        packed = codec->pack(codec->level, small, room, data, size);
        if (packed && (codec->unpack(back, size, small, packed) != size || memcmp(back, data, size)))
            packed = 0;
    }
    free(small);
    free(back);
    return packed;
}
