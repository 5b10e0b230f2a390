// OHIF 3.13 over the Orthanc behind nginx.conf: everything comes from one origin.
window.config = {
  routerBasename: null,
  extensions: [],
  modes: [],
  // OHIF's PET/CT fusion (TMTV) opens no segmentation unless it is told how.
  modesConfiguration: {
    '@ohif/mode-tmtv': {
      sopClassHandlers: { $push: ['@ohif/extension-cornerstone-dicom-seg.sopClassHandlerModule.dicom-seg'] },
    },
  },
  customizationService: {},
  showStudyList: true,
  maxNumberOfWebWorkers: 2,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  maxNumRequests: { interaction: 20, thumbnail: 4, prefetch: 8 },
  // A click on a segmentation opens it; OHIF asks first otherwise.
  disableConfirmationPrompts: true,
  investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'orthanc',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'orthanc',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'orthanc',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        qidoSupportsIncludeField: false,
        supportsReject: false,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        dicomUploadEnabled: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        omitQuotationForMultipartRequest: true,
        // Orthanc 1.10 gives frames in the syntax they have, and 1-bit ones, for these words alone.
        acceptHeader: ['multipart/related; type=application/octet-stream; transfer-syntax=*'],
        // Not pdf: Orthanc answers bulk data as multipart only.
        singlepart: 'bulkdata,video',
        bulkDataURI: { enabled: true },
      },
    },
  ],
};
