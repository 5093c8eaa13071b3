//! A build's steps as a trace: for `chrome://tracing` and Perfetto, and for OpenTelemetry. Pure.

use serde_json::{Value, json};
use spolia_core::Digest;

use crate::record::{Record, StepSpan};

/// The lane of each step: the first that is free when it starts. `None` for steps without times.
pub fn lanes(steps: &[StepSpan]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(|at| (steps[*at].start_us, *at));
    let mut free_from: Vec<u64> = Vec::new();
    let mut lanes = vec![None; steps.len()];
    for at in order {
        let Some((start, wall)) = steps[at].start_us.zip(steps[at].wall_us) else { continue };
        let lane = free_from.iter().position(|free| *free <= start).unwrap_or_else(|| {
            free_from.push(0);
            free_from.len() - 1
        });
        free_from[lane] = start.saturating_add(wall);
        lanes[at] = Some(lane);
    }
    lanes
}

/// The Trace Event Format (Google, "Trace Event Format", 2016), which Chrome and Perfetto open: complete events, µs.
pub fn chrome(record: &Record) -> Value {
    let mut events = vec![json!({
        "ph": "M", "pid": 1, "name": "process_name", "args": { "name": record.facts.subject },
    })];
    let lanes = lanes(&record.steps);
    for lane in 0..lanes.iter().flatten().max().map_or(0, |most| most + 1) {
        events.push(json!({
            "ph": "M", "pid": 1, "tid": lane + 1, "name": "thread_name", "args": { "name": format!("lane {}", lane + 1) },
        }));
    }
    for (step, lane) in record.steps.iter().zip(&lanes) {
        let Some(lane) = lane else { continue };
        events.push(json!({
            "ph": "X", "pid": 1, "tid": lane + 1, "name": step.name, "cat": step.outcome,
            "ts": step.start_us, "dur": step.wall_us,
            "args": {
                "outcome": step.outcome, "miss": step.miss, "cpu_us": step.cpu_us,
                "max_rss_bytes": step.max_rss_bytes, "output_bytes": step.output_bytes, "needs": step.needs,
            },
        }));
    }
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": { "run": record.run, "spolia_perf": record.spolia_perf },
    })
}

/// OTLP as JSON (OpenTelemetry protocol 1.x, `ExportTraceServiceRequest` in protobuf's JSON mapping): one span for the
/// build, one for each step below it. Numbers of 64 bits are strings there, ids hexadecimal.
pub fn otlp(record: &Record) -> Value {
    let name = record.run.clone().unwrap_or_default();
    let hex = |text: &str, digits: usize| -> String {
        let digest = Digest::blake3(text.as_bytes()).to_hex();
        digest.as_str().chars().take(digits).collect()
    };
    let trace = hex(&name, 32);
    let root = hex(&format!("{name}\0"), 16);
    let sample = record.samples.last().cloned().unwrap_or_default();
    let begin_us = sample.started_at_us.unwrap_or(0);
    let ns = |us: u64| begin_us.saturating_add(us).saturating_mul(1000).to_string();
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let number = |key: &str, value: Option<u64>| {
        value.map(|value| json!({ "key": key, "value": { "intValue": value.to_string() } }))
    };
    let last = record.steps.iter().filter_map(|step| Some(step.start_us? + step.wall_us?)).max();
    let whole = sample.wall_us.max(last).unwrap_or(0);
    let status = |failed: bool| json!({ "code": if failed { 2 } else { 1 } });
    let counted: Vec<Value> = [
        number("spolia.cache.hits", sample.cache_hits),
        number("spolia.cache.misses", sample.cache_misses),
        number("process.cpu.user_us", sample.user_us),
        number("process.cpu.system_us", sample.sys_us),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut spans = vec![json!({
        "traceId": trace, "spanId": root, "name": record.facts.subject, "kind": 1,
        "startTimeUnixNano": ns(0), "endTimeUnixNano": ns(whole), "status": status(!sample.is_ok()),
        "attributes": counted,
    })];
    for step in &record.steps {
        let Some((start, wall)) = step.start_us.zip(step.wall_us) else { continue };
        let mut attributes = vec![text("spolia.outcome", &step.outcome)];
        attributes.extend(step.miss.as_ref().map(|miss| text("spolia.miss", miss)));
        attributes.extend(number("process.cpu_us", step.cpu_us));
        attributes.extend(number("spolia.output.bytes", step.output_bytes));
        spans.push(json!({
            "traceId": trace, "spanId": hex(&format!("{name}\0{}", step.name), 16), "parentSpanId": root,
            "name": step.name, "kind": 1, "startTimeUnixNano": ns(start), "endTimeUnixNano": ns(start + wall),
            "status": status(step.outcome == "failed"), "attributes": attributes,
        }));
    }
    let mut resource = vec![text("service.name", "spolia"), text("host.arch", &record.facts.host.arch)];
    let commit = record.facts.git.as_ref().map(|git| text("vcs.ref.head.revision", &git.commit));
    resource.extend(commit);
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "spolia perf" }, "spans": spans }],
    }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let step = |name: &str, start: Option<u64>, wall: u64| StepSpan {
            name: name.to_owned(),
            start_us: start,
            wall_us: Some(wall),
            outcome: "ran".to_owned(),
            ..StepSpan::default()
        };
        let steps =
            vec![step("a", Some(0), 10), step("b", Some(5), 10), step("c", Some(10), 5), step("d", None, 1)];
        Record { run: Some("r".to_owned()), steps, ..Record::default() }
    }

    #[test]
    fn steps_share_lanes_that_are_free() {
        assert_eq!(lanes(&record().steps), [Some(0), Some(1), Some(0), None]);
    }

    #[test]
    fn chrome_has_a_complete_event_for_each_step_with_times() {
        let trace = chrome(&record());
        let events = trace["traceEvents"].as_array().unwrap();
        let complete: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(complete.len(), 3);
        assert_eq!(
            (complete[1]["ts"].as_u64(), complete[1]["dur"].as_u64(), complete[1]["tid"].as_u64()),
            (Some(5), Some(10), Some(2))
        );
    }

    #[test]
    fn otlp_has_ids_of_the_right_length_and_numbers_as_strings() {
        let trace = otlp(&record());
        let spans = trace.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
        assert_eq!(spans.len(), 4);
        for span in spans {
            assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
            assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
            assert!(span["endTimeUnixNano"].as_str().unwrap().parse::<u64>().is_ok());
        }
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
    }
}
