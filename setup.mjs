export const findCargo = () => 'cargo';
export const installCargo = () => undefined;
export const ensureNodeModules = () => {};
