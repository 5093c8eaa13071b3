//! `fields → JSON Schema`: what editors know about `spolia.toml` (draft-07, which they all read).

use serde_json::{Map, Value, json};

use super::fields::{Field, Kind, Object, ROOT};

/// A name of a step, a pool, a mount; see `step::is_name`.
const NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9._-]*$";
/// A variable of the environment.
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// A platform; see [`spolia_core::Platform`].
const PLATFORM: &str = "^([a-z0-9_]+/[a-z0-9_]+(/[a-z0-9_]+)?|any)$";
/// See [`spolia_core::conf::parse_duration`].
const DURATION: &str = "^([0-9]+(ms|s|m|h|d|w))+$";
/// See [`spolia_core::conf::parse_size`].
const SIZE: &str = "^[0-9]+(\\.[0-9])? *(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$";

/// The schema of a manifest: of the root file, of which an included one uses a part.
pub fn schema() -> Value {
    let mut schema = object(&ROOT);
    if let Some(top) = schema.as_object_mut() {
        top.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        top.insert("title".to_owned(), json!("spolia.toml"));
        top.insert("description".to_owned(), json!("What Spolia builds."));
    }
    schema
}

fn object(object: &Object) -> Value {
    let properties: Map<String, Value> =
        object.fields.iter().map(|field| (field.key.to_owned(), property(field))).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !object.required.is_empty() {
        schema["required"] = json!(object.required);
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = kind(field.key, field.kind);
    schema["description"] = json!(field.doc);
    schema
}

fn kind(key: &str, kind: Kind) -> Value {
    match kind {
        Kind::Text => text(key),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Duration => pattern(DURATION),
        Kind::Size => pattern(SIZE),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Texts => texts(key),
        Kind::TextOrTexts => json!({ "oneOf": [text(key), texts(key)] }),
        Kind::PlatformList => platforms(),
        Kind::PlatformsOrAny => json!({ "oneOf": [{ "const": "any" }, platforms()] }),
        Kind::TextMap => map(VARIABLE, json!({ "type": "string" })),
        Kind::CountMap => {
            map(NAME, json!({ "type": "integer", "minimum": 1, "maximum": super::fields::POOL_MAX }))
        }
        Kind::Table(inner) => object(inner),
        Kind::TableMap(inner) => map(NAME, object(inner)),
        Kind::PlatformMap(inner) => map(PLATFORM, object(inner)),
        Kind::PlatformTextMap => map(PLATFORM, map(NAME, json!({ "type": "string" }))),
        Kind::TextOrTableList(inner) => {
            json!({ "type": "array", "items": { "oneOf": [{ "type": "string", "minLength": 1 }, object(inner)] } })
        }
        Kind::TableList(inner) => json!({ "type": "array", "items": object(inner) }),
        Kind::Elsewhere => json!({ "type": "object" }),
    }
}

/// A string; of some keys more is known.
fn text(key: &str) -> Value {
    match key {
        "sha256" => pattern("^[0-9a-f]{64}$"),
        "id" | "pool" => pattern(NAME),
        "salt" | "to" => json!({ "type": "string" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

fn texts(key: &str) -> Value {
    let items = match key {
        "pass-env" => pattern(VARIABLE),
        "needs" => pattern(NAME),
        _ => json!({ "type": "string" }),
    };
    json!({ "type": "array", "items": items })
}

fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn platforms() -> Value {
    json!({ "type": "array", "items": pattern(PLATFORM), "minItems": 1 })
}

fn map(names: &str, values: Value) -> Value {
    json!({ "type": "object", "patternProperties": { names: values }, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fields::{
        CACHE, CONTAINER_KEYS, INCLUDED, MOUNT, OUTPUT, OVERRIDE, PROJECT, SOURCE, STEP, VARIANT,
    };
    use super::super::tests::{DESIGN, parse_files};
    use super::*;

    /// Every table of the manifest: its keys, and a file with `KEY = 1979-05-27` in it at `@`.
    const TABLES: &[(&Object, &str)] = &[
        (&ROOT, "@"),
        (&PROJECT, "[project]\n@"),
        (&CACHE, "[cache]\n@"),
        (&VARIANT, "[variant.x]\n@"),
        (&OVERRIDE, "[variant.x.steps.s]\n@"),
        (&STEP, "[steps.s]\n@"),
        (&OVERRIDE, "[steps.s.platform.\"linux/amd64\"]\n@"),
        (&OUTPUT, "[[steps.s.outputs]]\n@"),
        (&MOUNT, "[[steps.s.mounts]]\n@"),
        (&SOURCE, "[steps.s.source]\n@"),
    ];

    /// What the parser says of `key = DATE`, a value that no key takes.
    fn said(template: &str, key: &str) -> String {
        let text = template.replace('@', &format!("{key} = 1979-05-27\n"));
        let diagnostics = parse_files(&[("spolia.toml", &text)], None).unwrap_err();
        diagnostics.iter().map(|one| format!("{}\n", one.message)).collect()
    }

    #[test]
    fn the_parser_reads_every_key_of_the_table_and_no_other() {
        let mut all: BTreeSet<&str> = BTreeSet::new();
        for (object, _) in TABLES {
            all.extend(object.keys());
        }
        for (object, template) in TABLES {
            for key in &all {
                let said = said(template, key);
                if object.keys().contains(key) {
                    assert!(said.contains(&format!("`{key}` must be ")), "{template} {key}: {said}");
                } else {
                    assert!(said.contains(&format!("`{key}` is not a key of ")), "{template} {key}: {said}");
                }
            }
        }
        assert!(INCLUDED.fields.iter().all(|field| ROOT.keys().contains(&field.key)));
    }

    #[test]
    fn the_schema_has_the_same_keys() {
        let schema = schema();
        let keys = |pointer: &str| -> BTreeSet<String> {
            let found = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
            found["properties"].as_object().unwrap().keys().cloned().collect()
        };
        let name = NAME.replace('/', "~1");
        let platform = PLATFORM.replace('/', "~1");
        let step = format!("/properties/steps/patternProperties/{name}");
        let check = |pointer: &str, object: &Object| {
            let expect: BTreeSet<String> = object.keys().into_iter().map(str::to_owned).collect();
            assert_eq!(keys(pointer), expect, "{pointer}");
        };
        check("", &ROOT);
        check("/properties/project", &PROJECT);
        check("/properties/cache", &CACHE);
        check(&step, &STEP);
        check(&format!("{step}/properties/platform/patternProperties/{platform}"), &OVERRIDE);
        check(&format!("{step}/properties/outputs/items/oneOf/1"), &OUTPUT);
        check(&format!("{step}/properties/mounts/items"), &MOUNT);
        check(&format!("{step}/properties/source"), &SOURCE);
        let variant = format!("/properties/variant/patternProperties/{name}");
        check(&variant, &VARIANT);
        check(&format!("{variant}/properties/steps/patternProperties/{name}"), &OVERRIDE);
        // Known to the parser only to be refused in words of their own.
        assert!(CONTAINER_KEYS.iter().all(|key| !keys(&step).contains(*key)));
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    }

    /// Every key that the examples use is in the schema, at its place.
    #[test]
    fn the_examples_fit_the_schema() {
        for text in [DESIGN, include_str!("../../../../examples/tools/spolia.toml")] {
            let table: toml::de::DeTable<'_> = toml::de::DeTable::parse(text).unwrap().into_inner();
            fits_table(&table, &schema(), "");
        }
    }

    fn fits_table(table: &toml::de::DeTable<'_>, schema: &Value, path: &str) {
        for (key, value) in table {
            let key = key.get_ref();
            let properties = schema["properties"].get(key.as_ref());
            let named = schema["patternProperties"].as_object().and_then(|map| map.values().next());
            let open = schema.get("additionalProperties").is_none();
            match properties.or(named) {
                Some(inner) => fits(value.get_ref(), inner, &format!("{path}.{key}")),
                None => assert!(open, "{path}.{key} is not in the schema"),
            }
        }
    }

    fn fits(value: &toml::de::DeValue<'_>, schema: &Value, path: &str) {
        use toml::de::DeValue;
        let kind = match value {
            DeValue::String(_) => "string",
            DeValue::Integer(_) => "integer",
            DeValue::Boolean(_) => "boolean",
            DeValue::Array(_) => "array",
            DeValue::Table(_) => "object",
            _ => panic!("{path}: no key takes this"),
        };
        let choices = schema["oneOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
        let by_kind = |one: &&Value| one["type"] == kind || (kind == "string" && one["type"].is_null());
        let chosen = choices.iter().find(by_kind).unwrap_or_else(|| panic!("{path}: {kind} {schema}"));
        match value {
            DeValue::Array(items) => {
                items.iter().for_each(|item| fits(item.get_ref(), &chosen["items"], path));
            }
            DeValue::Table(table) => fits_table(table, chosen, path),
            DeValue::String(text) => {
                let words = chosen["enum"].as_array();
                let is_word = words.is_none_or(|words| words.iter().any(|word| word == text.as_ref()));
                assert!(is_word, "{path}: {text}");
            }
            _ => {}
        }
    }
}
