# Compiles the C and assembler files of SOURCES into the static library LIB. Run it in the folder
# the files are in: make -f …/archive.mk LIB=libz.a SOURCES='*.c' CC=… AR=… CFLAGS=…
#
# The libraries come without their own build files, and none of them needs more than this. There
# is no -j: make takes its slots from the jobserver that it finds in the environment.

# Sorted, and `D` for archives without times and owners: the same bytes wherever this runs.
objects := $(addsuffix .o,$(basename $(sort $(wildcard $(SOURCES)))))

$(LIB): $(objects)
	rm -f $@
	$(AR) rcsD $@ $(objects)

%.o: %.c
	$(CC) $(CFLAGS) -c -o $@ $<

%.o: %.S
	$(CC) $(CFLAGS) -c -o $@ $<
