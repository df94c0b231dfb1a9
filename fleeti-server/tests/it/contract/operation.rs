//! The operations of the document.

use reqwest::Method;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An operation of the document.
pub struct Operation {
    pub id: String,
    pub method: Method,
    pub path: String,
    pub node: Value,
}

impl Operation {
    pub fn all() -> Vec<Self> {
        let document: Value = serde_json::from_str(fleeti_server::api::openapi::text()).unwrap();
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, node) in item.as_object().unwrap() {
                all.push(Self {
                    id: node["operationId"].as_str().unwrap().to_owned(),
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    node: node.clone(),
                });
            }
        }
        all
    }
    pub fn statuses(&self) -> BTreeSet<u16> {
        self.node["responses"].as_object().unwrap().keys().map(|s| s.parse().unwrap()).collect()
    }
    pub fn takes_json(&self) -> bool {
        self.node["requestBody"]["content"]["application/json"].is_object()
    }
    /// The path with these values; a parameter without a value gets one that no type accepts.
    pub fn with(&self, values: &BTreeMap<&str, String>) -> String {
        values.iter().fold(self.path.clone(), |path, (name, value)| {
            path.replace(&format!("{{{name}}}"), value)
        })
    }
    /// Whether it is done once for each `Idempotency-Key`.
    pub fn reads_key(&self) -> bool {
        let parameters = self.node["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|p| p["name"] == "Idempotency-Key"))
    }
}
