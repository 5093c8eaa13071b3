//! Releases before judges that others wrote: diffoscope over builds in two checkouts and by two users, the validators of
//! CycloneDX, SPDX and in-toto, skopeo for images, minisign for signatures. `cargo xtask test dist`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::run::{self, Done};

/// What judges, from PyPI: each with its version, so that a new one is a change of ours.
const JUDGES: &[&str] = &[
    "diffoscope==332",
    "cyclonedx-python-lib[json-validation]==11.12.0",
    "spdx-tools==0.8.5",
    "in-toto-attestation==0.9.3",
];
/// The user that one of the releases is made by: `nobody` on every Linux.
const OTHER_USER: &str = "65534";

const MANIFEST: &str = r#"
[project]
name = "proof"
platforms = ["linux/amd64", "linux/arm64"]

[steps.words-src]
source = { name = "words", version = "1", sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", licence = "CC0-1.0" }
run = 'echo hello >${out}/words.txt'
platforms = "any"
outputs = ["words.txt"]

[steps.app]
needs = ["words-src"]
run = '''
mkdir ${out}/lib
cp ${step.words-src}/words.txt ${out}/lib/words
for n in 9 3 7 1; do echo $n ${platform} >${out}/lib/$n; done
printf '#!/bin/sh\necho ${platform}\n' >${out}/app
chmod 755 ${out}/app
ln -s 9 ${out}/lib/last
'''
outputs = ["app", "lib"]

[dist.proof]
archive = "proof${platform.suffix}.tgz"
root = "proof"
version = "1.0"
files = { "bin/" = "step:app/app", "lib" = "step:app/lib", "docs/" = "docs/**" }
folders = ["empty"]
checksums = ["md5", "sha256", "sha512", "blake3"]
legacy = { manifest = true, md5 = ".md5.txt" }
sources = { archive = "sources.tar.xz" }
sbom = ["cyclonedx", "spdx"]
provenance = true
oci = "proof.oci.tar"

[dist.zipped]
archive = "proof${platform.suffix}.zip"
to = "dist-zip"
files = { "bin/" = "step:app/app", "lib" = "step:app/lib", "docs/" = "docs/**" }

[dist.zst]
archive = "proof${platform.suffix}.tar.zst"
to = "dist-zst"
files = { "bin/" = "step:app/app", "lib" = "step:app/lib", "docs/" = "docs/**" }
"#;

/// Reads both bills of a release and its statement, and lets their own libraries say what they think.
const VALIDATE: &str = r#"
import json, sys
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
text = open(sys.argv[1] + "/proof.cdx.json").read()
wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
assert wrong is None, wrong
document = parse_file(sys.argv[1] + "/proof.spdx.json")
messages = validate_full_spdx_document(document)
assert not messages, [m.validation_message for m in messages]
assert len(document.packages) == 3, document.packages
statement = json.load(open(sys.argv[1] + "/proof.intoto.json"))
Statement.copy_from_pb(json_format.ParseDict(statement, statement_pb2.Statement())).validate()
# A field that SLSA does not have is an error here.
provenance = json_format.ParseDict(statement["predicate"], provenance_pb2.Provenance())
assert provenance.run_details.builder.id and len(provenance.build_definition.resolved_dependencies) == 2
print("both bills and the statement are valid")
"#;

/// Everything.
pub(crate) fn proofs() -> Done {
    run::cargo(&["build", "--quiet", "--package", "spolia"])?;
    let judges = judges()?;
    let folder = std::env::temp_dir().join(format!("spolia-dist-{}", std::process::id()));
    let proved = prove(&folder, &judges);
    let removed = std::fs::remove_dir_all(&folder);
    proved?;
    removed.map_err(|error| format!("cannot remove `{}`: {error}", folder.display()))
}

/// The folder with the judges' programs; installed once and kept below `target`.
fn judges() -> Done<PathBuf> {
    for program in ["skopeo", "minisign"] {
        if !packages::ensure(&[program], &[program])? {
            return Err(format!("{program} must be installed: it judges releases"));
        }
    }
    let judges = packages::python("judges", JUDGES)?;
    let mut magic = Command::new(judges.join("python"));
    if run::output(magic.args(["-c", "import magic"])).is_err() {
        // diffoscope asks a library of the system what kind of file it has.
        packages::install(&["libmagic1"])?;
    }
    Ok(judges)
}

fn prove(folder: &Path, judges: &Path) -> Done {
    let io = |error: std::io::Error| format!("cannot prepare `{}`: {error}", folder.display());
    let origin = folder.join("origin");
    std::fs::create_dir_all(origin.join("docs/deep")).map_err(io)?;
    for (name, text) in [("spolia.toml", MANIFEST), ("docs/a.md", "a\n"), ("docs/deep/b.md", "b\n")] {
        std::fs::write(origin.join(name), text).map_err(io)?;
    }
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-q", "-m", "all"]] {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(args).current_dir(&origin);
        run::checked(&mut git)?;
    }
    run::checked(Command::new("chmod").arg("755").arg(folder))?;
    let spolia = folder.join("spolia");
    std::fs::copy(binary()?, &spolia).map_err(io)?;
    let first = release(folder, &spolia, "first", None, "022", "UTC")?;
    let second = release(folder, &spolia, "far/away/second", None, "077", "Asia/Tokyo")?;
    let mut others = vec![("in another checkout", second)];
    if run::is_root() {
        others.push((
            "by another user",
            release(folder, &spolia, "third", Some(OTHER_USER), "002", "America/Lima")?,
        ));
    } else {
        println!("not root: no release was made by another user");
    }
    for (words, other) in others {
        for kind in ["dist", "dist-zip", "dist-zst"] {
            let mut judge = Command::new(judges.join("diffoscope"));
            judge.args(["--exclude", "*/run.json", "--exclude-directory-metadata", "yes"]);
            judge.arg(first.join(kind)).arg(other.join(kind));
            run::checked(&mut judge).map_err(|error| format!("{kind} {words} differs: {error}"))?;
        }
        println!("diffoscope finds no difference {words}");
    }
    // The judge is awake: these two are not the same.
    let mut control = Command::new(judges.join("diffoscope"));
    control.arg(first.join("dist-zip")).arg(first.join("dist-zst")).stdout(std::process::Stdio::null());
    if run::checked(&mut control).is_ok() {
        return Err("diffoscope finds no difference where there is one".to_owned());
    }
    let mut python = Command::new(judges.join("python"));
    run::checked(python.args(["-c", VALIDATE]).arg(first.join("dist")))?;
    image(folder, &first.join("dist"))?;
    signature(folder, &spolia, &first)
}

/// Both images, by skopeo: it takes no blob whose digest is not the one in its name.
fn image(folder: &Path, dist: &Path) -> Done {
    for architecture in ["amd64", "arm64"] {
        let to = folder.join("image").join(architecture);
        std::fs::create_dir_all(&to).map_err(|error| error.to_string())?;
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "--override-os", "linux", "--override-arch", architecture]);
        skopeo.args(["copy", "-q", &format!("oci-archive:{}", dist.join("proof.oci.tar").display())]);
        run::checked(skopeo.arg(format!("dir:{}", to.display())))?;
        let mut inspect = Command::new("skopeo");
        inspect.args(["inspect", "--config", &format!("dir:{}", to.display())]);
        let config = run::output(&mut inspect)?;
        if !config.contains(&format!("\"architecture\": \"{architecture}\"")) {
            return Err(format!("the image for {architecture} is for another machine: {config}"));
        }
    }
    Ok(())
}

/// A signature of ours before minisign, and a key of minisign's.
fn signature(folder: &Path, spolia: &Path, checkout: &Path) -> Done {
    let (secret, public) = (folder.join("release.key"), folder.join("release.pub"));
    let mut generate = Command::new("minisign");
    run::checked(generate.args(["-G", "-W", "-f", "-p"]).arg(&public).arg("-s").arg(&secret))?;
    let place = checkout.parent().unwrap_or(checkout);
    let mut sign = Command::new(spolia);
    sign.args(["dist", "proof", "--sign-key"]).arg(&secret).current_dir(checkout);
    sign.env("HOME", place.join("home")).env("XDG_CACHE_HOME", place.join("home/cache"));
    run::checked(sign.env_remove("SPOLIA_CACHE_DIR"))?;
    let dist = checkout.join("dist");
    let mut verify = Command::new("minisign");
    run::checked(verify.args(["-V", "-m", "SHA256SUMS", "-p"]).arg(&public).current_dir(&dist))?;
    let mut check = Command::new(spolia);
    run::checked(check.args(["dist", "--check"]).arg(&dist).arg("--public-key").arg(&public))
}

fn binary() -> Done<PathBuf> {
    run::target().map(|target| target.join("debug/spolia"))
}

/// A checkout of its own with a home and a store of its own, and the release in it.
fn release(
    folder: &Path,
    spolia: &Path,
    name: &str,
    user: Option<&str>,
    umask: &str,
    zone: &str,
) -> Done<PathBuf> {
    let place = folder.join(name);
    let checkout = place.join("checkout");
    std::fs::create_dir_all(place.join("home")).map_err(|error| error.to_string())?;
    run::checked(Command::new("git").args(["clone", "-q"]).arg(folder.join("origin")).arg(&checkout))?;
    let script = format!("umask {umask}; exec \"$0\" dist");
    let mut command = match user {
        None => Command::new("sh"),
        Some(user) => {
            run::checked(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&place))?;
            let mut command = Command::new("setpriv");
            let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
            command.args([uid.as_str(), gid.as_str(), "--clear-groups", "sh"]);
            command
        }
    };
    command.args(["-c", &script]).arg(spolia).current_dir(&checkout).env_remove("SPOLIA_CACHE_DIR");
    command.env("HOME", place.join("home")).env("XDG_CACHE_HOME", place.join("home/cache")).env("TZ", zone);
    run::checked(&mut command)?;
    Ok(checkout)
}
