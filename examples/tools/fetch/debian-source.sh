# Fetches the upstream archive of a Debian source package:
#   sh fetch/debian-source.sh PACKAGE UPSTREAM_VERSION FILE
#
# The apt client does the transfer, from the archives this machine is set up with; nothing here
# names a host. Apt's state lives in a private folder that goes away, so this needs no rights and
# runs with /etc and /var read-only.
#
# A mirror keeps one version of a package for each release. When the version asked for is gone,
# this says which one is there and what to write into spolia.toml.
set -eu

if [ $# -ne 3 ]; then
    echo "usage: sh debian-source.sh PACKAGE UPSTREAM_VERSION FILE" >&2
    exit 2
fi
package=$1 version=$2 file=$3
case $file in /*) ;; *) file=$PWD/$file ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$work/sources" "$work/state/lists/partial" "$work/cache/archives/partial" "$work/got"
: >"$work/status"
: >"$work/sources.list"

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

# The main archive of this release, as this machine names it. Suites of other vendors can bear the
# same name; those are told apart by the key they are signed with. An entry without a key is kept:
# apt then trusts only what the system trusts.
wanted='
function ours(suite) {
    return (codename != "" && suite == codename) || suite ~ /^((old)*stable|testing|unstable|sid)$/
}
function debian_key(key) { return key == "" || key ~ /debian-archive/ }
'

# One-line entries: `deb [options] uri suite component...`.
set --
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$list" ] && set -- "$@" "$list"
done
[ $# -eq 0 ] || awk -v codename="$codename" "$wanted"'
    { sub(/#.*/, "") }
    $1 != "deb" && $1 != "deb-src" { next }
    {
        line = $0
        sub(/^[ \t]*deb(-src)?[ \t]+/, "", line)
        options = ""
        if (line ~ /^\[/) {
            end = index(line, "]")
            options = substr(line, 2, end - 2)
            line = substr(line, end + 1)
        }
        n = split(line, part)
        if (n < 3 || part[1] ~ /^cdrom:/ || !ours(part[2])) next
        main = 0
        for (i = 3; i <= n; i++) if (part[i] == "main") main = 1
        if (!main) next
        kept = key = ""
        m = split(options, option)
        for (i = 1; i <= m; i++) {
            if (option[i] ~ /^signed-by=/) key = option[i]
            if (option[i] !~ /^arch[-+]?=/) kept = kept " " option[i]
        }
        if (!debian_key(key)) next
        entry = "deb-src " (kept == "" ? "" : "[" kept " ] ") part[1] " " part[2] " main"
        if (!(entry in seen)) print entry
        seen[entry]
    }' "$@" >"$work/sources.list"

# Paragraphs of `Field: value`, where a line that starts with a blank goes on with the field above.
set --
for list in /etc/apt/sources.list.d/*.sources; do
    [ -f "$list" ] && set -- "$@" "$list"
done
[ $# -eq 0 ] || awk -v codename="$codename" "$wanted"'
    function flush(    n, i, part, suites, main, entry) {
        n = split(field["suites"], part)
        for (i = 1; i <= n; i++) if (ours(part[i])) suites = suites " " part[i]
        n = split(field["components"], part)
        for (i = 1; i <= n; i++) if (part[i] == "main") main = 1
        if (suites != "" && main && field["enabled"] !~ /^[ \t]*(no|false|off|0)/ &&
            field["uris"] !~ /cdrom:/ && debian_key(field["signed-by"])) {
            entry = "Types: deb-src\nURIs:" field["uris"] "\nSuites:" suites "\nComponents: main\n"
            if (field["signed-by"] != "") entry = entry "Signed-By:" field["signed-by"] "\n"
            if (field["trusted"] != "") entry = entry "Trusted:" field["trusted"] "\n"
            if (!(entry in seen)) print entry
            seen[entry]
        }
        delete field
        name = ""
    }
    FNR == 1 { flush() }
    /^#/ { next }
    /^[ \t]*$/ { flush(); next }
    /^[ \t]/ { field[name] = field[name] "\n" $0; next }
    {
        colon = index($0, ":")
        name = tolower(substr($0, 1, colon - 1))
        field[name] = substr($0, colon + 1)
    }
    END { flush() }' "$@" >"$work/sources/debian.sources"

if [ ! -s "$work/sources.list" ] && [ ! -s "$work/sources/debian.sources" ]; then
    echo "error: the apt sources of this machine hold no entry of Debian's main archive" >&2
    exit 1
fi

# How to reach an archive (proxies, timeouts, certificates) is the machine's to say. What else its
# configuration holds is left out: hooks that clean folders outside, further indexes to download.
apt-config dump |
    grep '^Acquire::' |
    grep -v '^Acquire::\(IndexTargets\|Languages\|Changelogs\|CompressionTypes\)' >"$work/apt.conf" || true
cat >>"$work/apt.conf" <<CONF
Dir::State "$work/state";
Dir::State::lists "$work/state/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/sources";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
CONF
APT_CONFIG=$work/apt.conf
export APT_CONFIG

apt-get -qq update
cd "$work/got"

# A line reads: 'URI' FILE SIZE SHA256:DIGEST
if ! there=$(apt-get -qq --print-uris --tar-only --only-source source "$package"); then
    echo "error: the mirror has no source package \`$package\`" >&2
    exit 1
fi
there=$(echo "$there" | sed -n "s/^'.*' \(${package}_.*\.orig\.tar\.[^ .]*\) [0-9]* \(.*\)\$/\1 \2/p" | head -n 1)
archive=${there%% *} digest=${there#* }
there_version=${archive#"${package}_"}
there_version=${there_version%.orig.tar.*}
if [ "$there_version" != "$version" ]; then
    {
        echo "error: the mirror does not have $package $version, it has ${there_version:-no archive of it}"
        [ -z "$there_version" ] || cat <<HINT
hint: to build that one, change these in spolia.toml, in the step that fetches $package:
    version = "$there_version"
    sha256 = "${digest#SHA256:}"
    run = 'sh fetch/debian-source.sh $package $there_version "\${out}/${file##*/}"'
HINT
    } >&2
    exit 1
fi

apt-get -qq --download-only --tar-only --only-source source "$package"
cp "$archive" "$file"
