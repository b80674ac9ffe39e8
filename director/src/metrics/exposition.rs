//! A scrape: what is counted, and how services are at that moment.

use std::sync::Arc;

use lvs_metrics::{Document, Render};
use tokio::sync::{mpsc, oneshot};

use super::Metrics;
use crate::control::ServiceStatus;
use crate::page::Page;

/// Whoever knows how all services are, and is asked at each scrape.
pub type Census = mpsc::Sender<oneshot::Sender<Vec<ServiceStatus>>>;

/// All that this process shows.
pub struct Exposition {
    metrics: Arc<Metrics>,
    census: Census,
    page: Page,
}

impl Exposition {
    /// Of these metrics and services, and this page.
    pub fn new(metrics: Arc<Metrics>, census: Census, page: Page) -> Self {
        Self {
            metrics,
            census,
            page,
        }
    }

    /// None while this director is stopping.
    fn services(&self) -> Vec<ServiceStatus> {
        let (answer, services) = oneshot::channel();
        // Without a receiver the answer is dropped too.
        let _ = self.census.blocking_send(answer);
        services.blocking_recv().unwrap_or_default()
    }
}

impl Render for Exposition {
    fn render(&self) -> Vec<u8> {
        self.metrics.render(&self.services()).into_bytes()
    }

    fn document(&self, path: &str) -> Option<Document> {
        self.page.document(path)
    }
}
