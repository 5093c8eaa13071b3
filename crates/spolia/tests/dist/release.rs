//! What lies beside the archives: sources, bills of material, statement, signature, images; and `--check`, which finds
//! every byte that was changed.

use serde_json::Value;
use spolia_testing::TestEnv;

use super::{commit, dist, packed, project, refused, run_in};

/// SHA-256 of `hello\n`.
const HELLO: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

fn whole() -> TestEnv {
    let env = project();
    env.edit_manifest("[steps.app]\n", &format!(
        "[steps.hello-src]\nsource = {{ name = 'hello', version = '2.1', sha256 = '{HELLO}', licence = 'MIT' }}\n\
         run = 'echo hello >${{out}}/hello.txt'\nplatforms = 'any'\noutputs = ['hello.txt']\n\n[steps.app]\nneeds = ['hello-src']\n"
    ));
    env.edit_manifest("licences = [\"LICENSE\"]\n", "licences = [\"LICENSE\"]\nsources = { archive = 'oss_source.tgz', md5 = '.md5' }\n\
        sbom = ['cyclonedx', 'spdx']\nprovenance = true\noci = { archive = 'kit.oci.tar', entrypoint = ['/kit/bin/app'] }\n");
    commit(&env);
    env
}

fn json(env: &TestEnv, name: &str) -> Value {
    serde_json::from_slice(&env.read(name)).unwrap()
}

#[test]
fn the_bundle_holds_exactly_the_declared_sources() {
    let env = whole();
    packed(&env, &[]);
    let out = env.path("dist");
    let listed = run_in(&out, "tar", &["tzf", "oss_source.tgz"]);
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        ["sources/", "sources/INDEX.json", "sources/hello-2.1/", "sources/hello-2.1/hello.txt"]
    );
    run_in(&out, "md5sum", &["-c", "--strict", "oss_source.tgz.md5"]);
    let index: Value =
        serde_json::from_str(&run_in(&out, "tar", &["xzOf", "oss_source.tgz", "sources/INDEX.json"]))
            .unwrap();
    let item = &index["sources"][0];
    assert_eq!(
        (&item["name"], &item["version"], &item["licence"]),
        (&"hello".into(), &"2.1".into(), &"MIT".into())
    );
    assert_eq!(item["sha256"], HELLO);
    let cyclonedx = json(&env, "dist/kit.cdx.json");
    let components = cyclonedx["components"].as_array().unwrap();
    assert!(components.iter().any(|one| one["name"] == "hello" && one["licenses"][0]["expression"] == "MIT"));
    // A file that was made from it says so; one of the tree does not.
    let depends = |file: &str| {
        let all = cyclonedx["dependencies"].as_array().unwrap();
        let found = all.iter().find(|one| one["ref"] == format!("file:kit.tgz:kit/{file}")).unwrap();
        found["dependsOn"].as_array().unwrap().len()
    };
    assert_eq!((depends("bin/app"), depends("LICENSE")), (1, 0));
    let spdx = json(&env, "dist/kit.spdx.json");
    assert!(spdx["packages"].as_array().unwrap().iter().any(|one| one["licenseDeclared"] == "MIT"));
    let statement = json(&env, "dist/kit.intoto.json");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let materials = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!(materials[1]["digest"]["sha256"], HELLO);
}

#[test]
fn a_step_that_fetches_and_says_nothing_is_an_error() {
    let env = whole();
    env.edit_manifest(
        "[steps.app]\n",
        "[steps.wheels]\nnetwork = true\nplatforms = 'any'\nrun = 'echo wheel >${out}/w.whl'\n\
        outputs = ['w.whl']\n\n[steps.app]\n",
    );
    env.edit_manifest("['hello-src']", "['hello-src', 'wheels']");
    commit(&env);
    let said = refused(&env, 1, &[]);
    assert!(
        said.contains("wheels uses the network and declares no source") && said.contains("`fetched`"),
        "{said}"
    );
    assert!(!env.has("dist/kit.tgz"));
    env.edit_manifest("md5 = '.md5' }", "md5 = '.md5', fetched = ['wheels'] }");
    commit(&env);
    packed(&env, &[]);
    let listed = run_in(&env.path("dist"), "tar", &["tzf", "oss_source.tgz"]);
    assert!(listed.contains("sources/wheels/w.whl\n"), "{listed}");
}

#[test]
fn an_image_layout_names_its_blobs_by_their_digests() {
    let env = whole();
    packed(&env, &[]);
    let to = env.path("image");
    std::fs::create_dir(&to).unwrap();
    run_in(&to, "tar", &["xf", "../dist/kit.oci.tar"]);
    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(to.join(name)).unwrap()).unwrap() };
    let blob = |descriptor: &Value| {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let path = to.join("blobs/sha256").join(&hex);
        assert!(run_in(&to, "sha256sum", &[path.to_str().unwrap()]).starts_with(&hex));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
        format!("blobs/sha256/{hex}")
    };
    assert_eq!(read("oci-layout")["imageLayoutVersion"], "1.0.0");
    let top = read("index.json");
    assert_eq!(top["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(top["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1.2.3");
    let index = read(&blob(&top["manifests"][0]));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    for image in index["manifests"].as_array().unwrap() {
        let manifest = read(&blob(image));
        let config = read(&blob(&manifest["config"]));
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["architecture"], image["platform"]["architecture"]);
        assert_eq!(config["config"]["Entrypoint"][0], "/kit/bin/app");
        let script = format!("gzip -dc {layer} | sha256sum");
        let diff_id = config["rootfs"]["diff_ids"][0].as_str().unwrap().to_owned();
        assert_eq!(format!("sha256:{}", &run_in(&to, "sh", &["-c", &script])[..64]), diff_id);
        assert!(run_in(&to, "tar", &["tzf", &layer]).contains("kit/bin/app"));
    }
}

/// What `--check` says of a release, and its exit code.
fn check(env: &TestEnv, args: &[&str]) -> (Option<i32>, String) {
    let output = env.command(["dist", "--check"].iter().chain(args)).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_changed_file_is_found() {
    let env = whole();
    packed(&env, &[]);
    let (code, said) = check(&env, &["dist"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("kit.tgz: 14 members as in manifest.json") && said.contains("subjects"), "{said}");
    assert_eq!(check(&env, &["dist/kit.tgz"]).0, Some(0));
    let names: Vec<String> = std::fs::read_dir(env.path("dist"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "run.json")
        .collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        let name = format!("dist/{name}");
        let content = env.read(&name);
        let mut flipped = content.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for wrong in [&flipped[..], &content[..content.len() / 2], b""] {
            env.write(&name, wrong);
            let (code, said) = check(&env, &["dist"]);
            assert_eq!(code, Some(4), "{name}: {said}");
        }
        env.remove(&name);
        // A sum beside a file is one of several.
        if !name.ends_with(".sha256") && !name.ends_with(".md5") && !name.ends_with(".md5.txt") {
            assert_eq!(check(&env, &["dist"]).0, Some(4), "{name}");
        }
        env.write(&name, &content);
    }
    assert_eq!(check(&env, &["dist"]).0, Some(0));
    assert_eq!(check(&env, &["nothing"]).0, Some(3));
}

/// An archive whose sums are all right and whose content is another.
#[test]
fn members_are_compared_with_the_manifest() {
    let env = project();
    env.edit_manifest("legacy = { md5 = \".md5.txt\" }\n", "");
    env.edit_manifest("checksums = [\"sha256\"]\n", "");
    commit(&env);
    packed(&env, &["--platform", "linux/amd64"]);
    let script = "
import hashlib, io, json, sys, tarfile
def member(name, data=b'x', kind=tarfile.REGTYPE, link=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, link, len(data) if kind == tarfile.REGTYPE else 0, 1705314896
    return info, io.BytesIO(data)
with tarfile.open('dist/kit.tgz', 'w:gz') as out:
    for one in [member('../x'), member('/etc/passwd'), member('kit/lib/y', kind=tarfile.SYMTYPE, link='/etc'),
                member('kit/dev', kind=tarfile.CHRTYPE), member('kit/LICENSE', b'other'), member('kit/LICENSE')]:
        out.addfile(*one)
    out.addfile(tarfile.TarInfo('kit/hard'))
raw = open('dist/kit.tgz', 'rb').read()
manifest = json.load(open('dist/manifest.json'))
manifest['platforms'][0]['archive'].update(size=len(raw), sha256=hashlib.sha256(raw).hexdigest())
json.dump(manifest, open('dist/manifest.json', 'w'))
with open('dist/SHA256SUMS', 'w') as out:
    for name in ['kit.tgz', 'manifest.json']:
        out.write(hashlib.sha256(open('dist/' + name, 'rb').read()).hexdigest() + '  ' + name + '\\n')
";
    run_in(&env.root(), "python3", &["-c", script]);
    let (code, said) = check(&env, &["dist"]);
    assert_eq!(code, Some(4), "{said}");
    for expect in [
        "`../x` would leave the folder it is unpacked in",
        "`/etc/passwd` would leave the folder it is unpacked in",
        "`kit/lib/y` points to another place than the manifest says",
        "the content of `kit/LICENSE` is not the one in the manifest",
        "`kit/LICENSE` is in it and not in the manifest, or in it twice",
        "`kit/dev` is in it and not in the manifest",
        "`kit/bin/app` is in the manifest and not in the archive",
        "the time of `kit/hard` is 0",
    ] {
        assert!(said.contains(expect), "{expect}\n{said}");
    }
}

#[test]
fn a_signature_is_made_kept_and_verified() {
    let env = whole();
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let secret = env.folder().join("key");
    std::fs::write(&secret, keys.sk.to_box(None).unwrap().into_string()).unwrap();
    let args = ["--sign-key", secret.to_str().unwrap()];
    assert!(packed(&env, &args).contains("Signed"));
    let first = env.read("dist/SHA256SUMS.minisig");
    assert!(!packed(&env, &args).contains("Signed"));
    assert_eq!(env.read("dist/SHA256SUMS.minisig"), first);
    let (public, wrong) = (keys.pk.to_base64(), other.pk.to_base64());
    let (code, said) = check(&env, &["dist", "--public-key", &public]);
    assert!(code == Some(0) && said.contains("SHA256SUMS: signature"), "{said}");
    assert_eq!(check(&env, &["dist", "--public-key", &wrong]).0, Some(4));
    assert!(check(&env, &["dist"]).1.contains("not checked: SHA256SUMS.minisig"));
    // The list changes with its files, and the signature no longer holds.
    env.write("LICENSE", "other");
    packed(&env, &["--allow-dirty"]);
    assert_eq!(check(&env, &["dist", "--public-key", &public]).0, Some(4));
    env.remove("dist/SHA256SUMS.minisig");
    assert_eq!(check(&env, &["dist", "--public-key", &public]).0, Some(4));
    assert_eq!(dist(&env, &["--allow-dirty", "--sign-key", "LICENSE"]).status.code(), Some(3));
}
