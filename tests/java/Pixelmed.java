import com.pixelmed.dicom.AttributeList;
import com.pixelmed.validate.DicomInstanceValidator;
import com.pixelmed.validate.DicomSRValidator;

/** Validates each file named with Pixelmed, SRs by their templates, in one process: to start one takes seconds. */
class Pixelmed {
    public static void main(String[] paths) throws Exception {
        DicomSRValidator reports = new DicomSRValidator();
        DicomInstanceValidator others = new DicomInstanceValidator();
        for (String path : paths) {
            AttributeList list = new AttributeList();
            list.read(path);
            System.out.println("== " + path);
            System.out.println(list.isSRDocument() ? reports.validate(list) : others.validate(list));
        }
    }
}
