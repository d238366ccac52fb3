//! The namespaces of the settings beside those of an application.

use anyhow::bail;

use super::App;

impl App {
    /// Refuses settings with namespaces for an application, which serves those that it registers.
    ///
    /// # Errors
    ///
    /// When there are such settings; names a namespace that the application has registered too.
    pub(super) fn check_namespaces(&self) -> anyhow::Result<()> {
        let listed = &self.config.namespaces;
        // The engine carries the gateway's own namespaces alone.
        if self.engine.is_some() || listed.is_empty() {
            return Ok(());
        }
        for (index, namespace) in listed.iter().enumerate() {
            if self.io.of(&namespace.name).is_some() {
                bail!("namespaces[{index}].name: the application has registered this namespace");
            }
        }
        bail!("namespaces: an application serves only the namespaces that it registers")
    }
}
